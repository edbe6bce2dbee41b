#pragma once

#include <cerrno>
#include <utility>

#include <unistd.h>

namespace lockrun::sys {

// Owns one file descriptor and closes it. A lock belongs to the open file description behind it (flock(2)): closing one
// copy frees nothing while another process or another copy has it open.
class [[nodiscard]] Descriptor {
public:
  Descriptor() = default;
  explicit Descriptor(int fd) noexcept : m_fd(fd) {}
  Descriptor(Descriptor&& other) noexcept : m_fd(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept
  {
    Descriptor incoming(std::move(other)); // survives self-move; closes the old one now
    std::swap(m_fd, incoming.m_fd);
    return *this;
  }
  ~Descriptor()
  {
    if (m_fd < 0) { return; }
    const int saved = errno;
    ::close(m_fd); // no retry on EINTR: Linux has closed it; again could close a stranger
    errno = saved;
  }

  int get() const noexcept { return m_fd; }
  bool is_open() const noexcept { return m_fd >= 0; }
  int release() noexcept { return std::exchange(m_fd, -1); }

private:
  int m_fd = -1;
};

} // namespace lockrun::sys
