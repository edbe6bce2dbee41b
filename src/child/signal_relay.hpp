#pragma once

#include "child/signal_rules.hpp"
#include "child/supervise.hpp"
#include "child/tree.hpp"
#include "child/witness.hpp"
#include "sys/signal.hpp"

#include <array>
#include <chrono>

#include <sys/types.h>

namespace lockrun::child {

// The command, as far as its supervisor knows.
struct CommandState {
  pid_t pid = 0;
  bool is_stopped = false;
  bool has_ended = false;
};

// Passes signals on to the command, and after its end to what is left of its tree: exactly those that these have not
// got by themselves.
class SignalRelay {
public:
  // Borrows all of them.
  SignalRelay(CommandState& command, const Supervision& how, Tree& tree);

  // Before the first signal is read: passes on what came before there was a command.
  void begin();

  // We got `signal`.
  void take(const sys::Signal& signal);

  // We are continued, and so is the command, which had stopped with us.
  void continue_command();

  void pass_on(int signal);

  // When work() wants to be called, on the steady clock.
  std::chrono::nanoseconds due() const { return m_witness.due(); }

  // Passes on what has turned out to be for the command.
  void work();

  // Ends the processes of the witness.
  void end() { m_witness.end(); }

  // The last signal that we got because of a key on the terminal; 0: none.
  int key() const noexcept { return m_key; }

private:
  void pass_on_what_came_before();
  void report_witnesses(const std::array<pid_t, 2>& before);
  void deliver(const sys::Signal& signal, const Reach& reach);
  void pass_to_rest(const sys::Signal& signal, const Reach& reach);

  CommandState& m_command;
  const Supervision& m_how;
  const Tree& m_tree;
  Group m_group;
  Witness m_witness;
  int m_key = 0;
  bool m_has_reported_refusal = false;
};

} // namespace lockrun::child
