// An engine that does what a script says. The script is $FAKE_ENGINE, one command a line:
//
//   expect VERB [key=value]...  the next line from lockrun has this verb and these fields; otherwise ends with 3
//   send TEXT                   a line; @N in it becomes the elapsed clock in N ms, in ms
//   raw TEXT                    without a newline; \n is one
//   flood N                     N bytes without a newline
//   renew EVERY TTL             sends RENEWED each EVERY ms, for TTL ms each, until lockrun says something
//   pass MS                     lets that much time pass on the elapsed clock, whatever lockrun says
//   deafen                      nothing can be sent to it from now on: EPIPE, as if it had ended
//   tell FD                     a byte to a descriptor of the test's
//   await FD                    waits until that has something to read, or ends
//   eof                         waits for lockrun to close its end
//   stop, kill, exit N          itself
//   deaf                        stays for ever, and reads nothing
//
// Each line from lockrun is added to the file $FAKE_ENGINE_LOG, and "EOF" for its end. At the end of the script it
// ends.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <sstream>
#include <string>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

long long now_ms()
{
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

void put(int fd, const std::string& text)
{
  if (::write(fd, text.data(), text.size()) < 0) { ::_exit(4); }
}

void note(const std::string& line)
{
  const char* const path = std::getenv("FAKE_ENGINE_LOG");
  if (path == nullptr) { return; }
  const int fd = ::open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  put(fd, line + "\n");
  ::close(fd);
}

// The next line from lockrun; ends the engine with its end, as every engine should.
std::string read_line()
{
  std::string line;
  char c = 0;
  for (;;) {
    const ssize_t count = ::read(STDIN_FILENO, &c, 1);
    if (count <= 0) {
      note("EOF");
      ::_exit(0);
    }
    if (c == '\n') { break; }
    line += c;
  }
  note(line);
  return line;
}

bool readable(int fd, int patience_ms)
{
  pollfd source{fd, POLLIN, 0};
  return ::poll(&source, 1, patience_ms) > 0;
}

std::string with_moments(std::string text)
{
  for (auto at = text.find('@'); at != std::string::npos; at = text.find('@')) {
    const auto end = text.find_first_not_of("-0123456789", at + 1);
    const long long offset = std::atoll(text.substr(at + 1, end - at - 1).c_str());
    text = text.substr(0, at) + std::to_string(now_ms() + offset) + (end == std::string::npos ? "" : text.substr(end));
  }
  return text;
}

void expect(std::istringstream& words)
{
  const std::string line = " " + read_line() + " ";
  std::string word;
  for (bool is_verb = true; words >> word; is_verb = false) {
    const auto found = line.find(" " + word + " ");
    if (found == std::string::npos || (is_verb && found != 0)) {
      note("expected " + word);
      ::_exit(3);
    }
  }
}

void renew(long long every, long long ttl)
{
  for (long long next = now_ms();;) {
    const long long left = next - now_ms();
    if (left > 0) {
      if (readable(STDIN_FILENO, static_cast<int>(left))) { return; }
      continue;
    }
    put(STDOUT_FILENO, "RENEWED deadline=" + std::to_string(now_ms() + ttl) + "\n");
    next += every;
  }
}

void pass(long long duration)
{
  const long long end = now_ms() + duration;
  for (long long left = duration; left > 0; left = end - now_ms()) { ::poll(nullptr, 0, static_cast<int>(left)); }
}

std::string rest_of(std::istringstream& words)
{
  std::string rest;
  std::getline(words >> std::ws, rest);
  return rest;
}

void obey(const std::string& command)
{
  std::istringstream words(command);
  std::string verb;
  words >> verb;
  long long number = 0;
  if (verb == "expect") {
    expect(words);
  } else if (verb == "send") {
    put(STDOUT_FILENO, with_moments(rest_of(words)) + "\n");
  } else if (verb == "raw") {
    std::string text = with_moments(rest_of(words));
    for (auto at = text.find("\\n"); at != std::string::npos; at = text.find("\\n")) { text.replace(at, 2, "\n"); }
    put(STDOUT_FILENO, text);
  } else if (verb == "flood") {
    words >> number;
    put(STDOUT_FILENO, std::string(static_cast<std::size_t>(number), 'x'));
  } else if (verb == "renew") {
    long long ttl = 0;
    words >> number >> ttl;
    renew(number, ttl);
  } else if (verb == "pass") {
    words >> number;
    pass(number);
  } else if (verb == "deafen") {
    ::shutdown(STDIN_FILENO, SHUT_RD);
  } else if (verb == "tell") {
    words >> number;
    put(static_cast<int>(number), ".");
  } else if (verb == "await") {
    words >> number;
    (void)readable(static_cast<int>(number), -1);
  } else if (verb == "eof") {
    for (;;) { read_line(); }
  } else if (verb == "stop") {
    ::raise(SIGSTOP);
  } else if (verb == "kill") {
    ::raise(SIGKILL);
  } else if (verb == "exit") {
    words >> number;
    ::_exit(static_cast<int>(number));
  } else if (verb == "deaf") {
    for (;;) { ::pause(); }
  } else if (!verb.empty()) {
    note("unknown command: " + command);
    ::_exit(5);
  }
}

} // namespace

int main()
{
  std::signal(SIGPIPE, SIG_IGN);
  const char* const script = std::getenv("FAKE_ENGINE");
  std::istringstream lines(script == nullptr ? "" : script);
  for (std::string line; std::getline(lines, line);) { obey(line); }
  return 0;
}
