#include "sys/terminal.hpp"

#include "sys/file.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

namespace lockrun::sys {

bool owns_terminal()
{
  return ::isatty(STDERR_FILENO) == 1 && ::tcgetpgrp(STDERR_FILENO) == ::getpgrp();
}

bool is_in_background()
{
  const auto terminal = open("/dev/tty", O_RDONLY | O_NONBLOCK);
  const pid_t foreground = terminal ? ::tcgetpgrp(terminal->get()) : -1;
  return foreground >= 0 && foreground != ::getpgrp();
}

std::optional<unsigned> terminal_columns()
{
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) { return std::nullopt; }
  return size.ws_col;
}

std::optional<unsigned> output_columns()
{
  if (::isatty(STDOUT_FILENO) != 1) { return std::nullopt; }
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0U;
}

} // namespace lockrun::sys
