#pragma once

#include <lockrun/error.hpp>

#include <type_traits>

namespace lockrun::sys {

// Any system call by its number (syscall(2)): for calls that libc has no wrapper for, and for tests that hold a wrapper
// against the bare kernel. `name` is what errors say; at most six arguments, each an integer, an enumerator or a
// pointer. Does not retry EINTR: this is the kernel's answer, unedited.
Result<long> raw_call_words(const char* name, long number, const long (&words)[6]);

template <class... Arguments>
Result<long> raw_call(const char* name, long number, Arguments... arguments)
{
  static_assert(sizeof...(Arguments) <= 6, "a system call has at most six arguments");
  [[maybe_unused]] const auto word = [](auto value) { // not used without arguments
    if constexpr (std::is_pointer_v<decltype(value)>) {
      return reinterpret_cast<long>(value);
    } else if constexpr (std::is_null_pointer_v<decltype(value)>) {
      return 0L;
    } else {
      static_assert(std::is_integral_v<decltype(value)> || std::is_enum_v<decltype(value)>,
        "an argument is an integer, an enumerator or a pointer");
      static_assert(sizeof(value) <= sizeof(long), "an argument is one register wide");
      return static_cast<long>(value);
    }
  };
  const long words[6] = {word(arguments)...};
  return raw_call_words(name, number, words);
}

} // namespace lockrun::sys
