#include "support/terminal.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

[[noreturn]] void fail(const char* what)
{
  throw std::system_error(errno, std::generic_category(), what);
}

} // namespace

Terminal::Terminal(const std::vector<std::string>& argv, const Start& start)
{
  std::vector<std::string> words = argv;
  std::vector<char*> pointers;
  for (std::string& word : words) { pointers.push_back(word.data()); }
  pointers.push_back(nullptr);
  const winsize size{24, 200, 0, 0};
  m_pid = ::forkpty(&m_fd, nullptr, nullptr, &size);
  if (m_pid < 0) { fail("forkpty"); }
  if (m_pid == 0) {
    for (int number = 1; number < NSIG; ++number) { (void)::signal(number, SIG_DFL); } // some cannot be set
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    // The kernel would show "^C" before or behind what the command writes about it.
    termios settings{};
    (void)::tcgetattr(STDIN_FILENO, &settings); // it is a terminal
    settings.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    (void)::tcsetattr(STDIN_FILENO, TCSANOW, &settings);
    for (const auto& [name, value] : start.environment) {
      if (value) {
        ::setenv(name.c_str(), value->c_str(), 1);
      } else {
        ::unsetenv(name.c_str());
      }
    }
    if (start.directory && ::chdir(start.directory->c_str()) != 0) { ::_exit(126); }
    for (const auto& [number, ours] : start.descriptors) { ::dup2(ours, number); }
    ::execvp(pointers[0], pointers.data());
    ::_exit(127);
  }
  ::fcntl(m_fd, F_SETFD, FD_CLOEXEC);
}

Terminal::~Terminal()
{
  hang_up();
  ::kill(m_pid, SIGKILL);
  while (::waitpid(m_pid, nullptr, 0) < 0 && errno == EINTR) {}
}

void Terminal::hang_up()
{
  if (m_fd >= 0) { ::close(std::exchange(m_fd, -1)); }
}

void Terminal::type(const std::string& keys) const
{
  if (::write(m_fd, keys.data(), keys.size()) != static_cast<ssize_t>(keys.size())) { fail("write"); }
}

bool Terminal::read_more()
{
  constexpr int k_milliseconds = 60'000;
  pollfd entry{m_fd, POLLIN, 0};
  if (::poll(&entry, 1, k_milliseconds) != 1) { return false; }
  char bytes[4096];
  const ssize_t got = ::read(m_fd, bytes, sizeof bytes);
  if (got <= 0) { return false; }
  m_screen.append(bytes, static_cast<std::size_t>(got));
  return true;
}

bool Terminal::await(const std::string& text)
{
  for (;;) {
    if (const auto found = m_screen.find(text); found != std::string::npos) {
      m_screen.erase(0, found + text.size());
      return true;
    }
    if (!read_more()) { return false; }
  }
}

std::string Terminal::rest_of_line()
{
  for (;;) {
    if (const auto end = m_screen.find("\r\n"); end != std::string::npos) {
      std::string line = m_screen.substr(0, end);
      m_screen.erase(0, end + 2);
      return line;
    }
    if (!read_more()) { return std::exchange(m_screen, {}); }
  }
}

void Terminal::resize(int columns) const
{
  const winsize size{24, static_cast<unsigned short>(columns), 0, 0};
  if (::ioctl(m_fd, TIOCSWINSZ, &size) != 0) { fail("ioctl(TIOCSWINSZ)"); }
}

std::vector<std::string> interactive_bash()
{
  return {"env", "PS1=bash> ", "TERM=dumb", "HISTFILE=", "bash", "--norc", "--noprofile", "-i"};
}

} // namespace lockrun::testing
