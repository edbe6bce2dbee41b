// What ends the program when nobody catches an exception: in practice, when there is no memory left. libstdc++'s own
// handler names the exception as the source does, and brings a demangler of 50 kB for that.
//
// A program linked with -Wl,-u,_ZN10__cxxabiv119__terminate_handlerE (LOCKRUN_LATE_INIT) gets this definition of the
// variable in which libstdc++ keeps the handler (std::set_terminate()) instead of libstdc++'s.

#include "sys/file.hpp"

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <typeinfo>

#include <cxxabi.h>
#include <fmt/format.h>

namespace {

using namespace lockrun;

[[noreturn]] void tell_and_abort()
{
  const std::type_info* const thrown = abi::__cxa_current_exception_type();
  char text[200]; // without a heap: that may be what we lack
  const auto written = fmt::format_to_n(text, sizeof text, "lockrun: ended by an exception that nobody caught ({})\n",
    thrown != nullptr ? thrown->name() : "none");
  (void)sys::write_standard_error({text, std::min(written.size, sizeof text)});
  std::abort();
}

} // namespace

// NOLINTBEGIN(*-reserved-identifier, readability-identifier-naming): the library's name
namespace __cxxabiv1 {
extern std::terminate_handler __terminate_handler;
std::terminate_handler __terminate_handler = tell_and_abort;
} // namespace __cxxabiv1
// NOLINTEND(*-reserved-identifier, readability-identifier-naming)
