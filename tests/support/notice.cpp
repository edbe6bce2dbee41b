#include "support/notice.hpp"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

void close_once(int& fd) noexcept
{
  if (fd >= 0) { ::close(std::exchange(fd, -1)); }
}

bool read_byte(int fd)
{
  char byte = 0;
  ssize_t got = -1;
  do {
    got = ::read(fd, &byte, 1);
  } while (got < 0 && errno == EINTR);
  return got == 1;
}

} // namespace

Pipe::Pipe()
{
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) { throw std::system_error(errno, std::generic_category(), "pipe2"); }
  read_end = ends[0];
  write_end = ends[1];
}

Pipe::~Pipe()
{
  close_read();
  close_write();
}

void Pipe::close_read() noexcept
{
  close_once(read_end);
}

void Pipe::close_write() noexcept
{
  close_once(write_end);
}

void Pipe::fill() const
{
  const int flags = ::fcntl(write_end, F_GETFL);
  (void)::fcntl(write_end, F_SETFL, flags | O_NONBLOCK);
  const char bytes[4096] = {};
  while (::write(write_end, bytes, sizeof bytes) > 0) {}
  (void)::fcntl(write_end, F_SETFL, flags);
}

void Notice::give() const
{
  const char byte = '.';
  while (::write(m_pipe.write_end, &byte, 1) < 0 && errno == EINTR) {}
}

bool Notice::await() const
{
  constexpr int k_milliseconds = 60'000;
  pollfd entry{m_pipe.read_end, POLLIN, 0};
  int ready = -1;
  do {
    ready = ::poll(&entry, 1, k_milliseconds);
  } while (ready < 0 && errno == EINTR);
  return ready == 1 && read_byte(m_pipe.read_end);
}

void Notice::wait() const
{
  (void)read_byte(m_pipe.read_end);
}

void Gate::wait()
{
  m_pipe.close_write();
  while (read_byte(m_pipe.read_end)) {}
}

} // namespace lockrun::testing
