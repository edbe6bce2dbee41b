#pragma once

#include "support/process.hpp"

#include <string>
#include <vector>

#include <sys/types.h>

namespace lockrun::testing {

// A terminal of its own (forkpty(3)) with a program in it, usually an interactive bash: with it come sessions, job
// control, and signals that the kernel sends because of keys. Hung up and killed at the end.
class Terminal {
public:
  explicit Terminal(const std::vector<std::string>& argv, const Start& start = {});
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // What a person would type; "\x03" is Ctrl-C, "\x1c" Ctrl-\, "\x1a" Ctrl-Z.
  void type(const std::string& keys) const;

  // Reads what appears on the screen until `text` is in it, and forgets all up to and with that. False when it does not
  // come. What is typed does not appear.
  bool await(const std::string& text);

  // Reads to the end of the line; for what comes behind an awaited text.
  std::string rest_of_line();

  // As closing the window does: whoever is in it goes on for as long as it likes.
  void hang_up();

  // Makes the screen another size, of which the kernel tells the foreground group with SIGWINCH.
  void resize(int columns) const;

  // All that appeared and was not yet forgotten.
  const std::string& screen() const noexcept { return m_screen; }

  pid_t pid() const noexcept { return m_pid; }

private:
  bool read_more();

  int m_fd = -1;
  pid_t m_pid = -1;
  std::string m_screen;
};

// An interactive bash without anybody's configuration.
std::vector<std::string> interactive_bash();

} // namespace lockrun::testing
