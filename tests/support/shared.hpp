#pragma once

#include <cerrno>
#include <memory>
#include <new>
#include <system_error>
#include <type_traits>

#include <sys/mman.h>

namespace lockrun::testing {

// A T in memory that forked processes share, zeroed at first: atomics and plain data. Whoever dies leaves what is
// there.
template <class T>
class Shared {
  static_assert(std::is_trivially_destructible_v<T>);

public:
  Shared()
  {
    void* const memory = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) { throw std::system_error(errno, std::generic_category(), "mmap"); }
    m_value = new (memory) T{};
  }
  ~Shared() { ::munmap(m_value, sizeof(T)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  T* operator->() const noexcept { return m_value; }
  T& operator*() const noexcept { return *m_value; }

private:
  T* m_value;
};

} // namespace lockrun::testing
