#pragma once

#include "sys/descriptor.hpp"

#include <lockrun/error.hpp>

#include <chrono>
#include <initializer_list>
#include <limits>
#include <optional>
#include <utility>

#include <csignal>
#include <sys/types.h>

namespace lockrun::sys {

// A set of signals (sigsetops(3)). A start names some forty: those that are known when it is compiled cost nothing.
class SignalSet {
public:
  constexpr SignalSet() noexcept = default;
  constexpr SignalSet(std::initializer_list<int> signals) noexcept
  {
    for (const int signal : signals) { add(signal); }
  }
  // But for those that the C library keeps for itself.
  static SignalSet all() noexcept
  {
    SignalSet set;
    ::sigfillset(&set.m_set);
    return set;
  }
  constexpr void add(int signal) noexcept { m_set.__val[word_of(signal)] |= bit_of(signal); }
  constexpr void remove(int signal) noexcept { m_set.__val[word_of(signal)] &= ~bit_of(signal); }
  constexpr bool contains(int signal) const noexcept { return (m_set.__val[word_of(signal)] & bit_of(signal)) != 0; }
  bool is_empty() const noexcept { return ::sigisemptyset(&m_set) == 1; }
  const ::sigset_t& raw() const noexcept { return m_set; }
  ::sigset_t& raw() noexcept { return m_set; }

private:
  // A bit for each signal, from 1 on.
  static constexpr unsigned k_bits = std::numeric_limits<unsigned long>::digits;
  static constexpr unsigned word_of(int signal) noexcept { return (static_cast<unsigned>(signal) - 1) / k_bits; }
  static constexpr unsigned long bit_of(int signal) noexcept
  {
    return 1UL << ((static_cast<unsigned>(signal) - 1) % k_bits);
  }
  ::sigset_t m_set{};
};

// A signal that was waited for, and who sent it.
struct Signal {
  int number = 0;
  int origin = 0;   // si_code: SI_KERNEL for a terminal's, SI_USER for kill(2)
  pid_t sender = 0; // meaningful for SI_USER, SI_TKILL and SI_QUEUE
};

// A descriptor that is readable while one of `signals` is pending, which the caller has blocked (signalfd(2)).
Result<Descriptor> signal_descriptor(const SignalSet& signals);

// Takes one signal out of it; none when there is none.
Result<std::optional<Signal>> read_signal(const Descriptor& signals);

enum class Disposition { standard, ignored, handled };

// The calling thread's mask (pthread_sigmask(3)). Each returns the mask before.
SignalSet block_signals(const SignalSet& signals);
SignalSet unblock_signals(const SignalSet& signals);
SignalSet set_signal_mask(const SignalSet& mask);

// Waits for one of `signals`, which the caller has blocked (sigtimedwait(2)); none when `patience` passed first.
// Without patience it waits for ever. EINTR by another signal's handler counts as none.
Result<std::optional<Signal>> wait_signal(const SignalSet& signals, std::optional<std::chrono::nanoseconds> patience);

// What the process does on `signal` (sigaction(2)).
Result<Disposition> disposition(int signal);

// Makes `signal` standard or ignored, and returns what it was.
Result<Disposition> set_disposition(int signal, Disposition wanted);

// Makes `signal` do nothing except to interrupt the system call that it arrives in (no SA_RESTART). Returns what it
// did.
Result<struct ::sigaction> set_interrupting(int signal);

// Gives `signal` back the action that set_interrupting() returned, and drops one that is still pending.
void restore_action(int signal, const struct ::sigaction& action);

// The signal that ends a blocked call of one of our threads, and a helper's sleep: sent to one thread, never to the
// process. No real-time signal, which the kernel refuses to send (EAGAIN) when any processes of the same user have used
// up RLIMIT_SIGPENDING; of the others the one that nobody dies of.
int wake_signal();

// While one of them lives, in whichever thread, wake_signal() interrupts the system call that it arrives in. The last
// one gives the action back and drops a signal that is still pending.
class [[nodiscard]] Interruptible {
public:
  static Result<Interruptible> create();
  Interruptible(Interruptible&& other) noexcept : m_owns(std::exchange(other.m_owns, false)) {}
  Interruptible& operator=(Interruptible&& other) noexcept
  {
    std::swap(m_owns, other.m_owns);
    return *this;
  }
  ~Interruptible();

private:
  Interruptible() = default;
  bool m_owns = true;
};

// kill(2). ESRCH: there is no such process.
Result<void> kill(pid_t pid, int signal);

// One thread of ours (tgkill(2)).
Result<void> kill_thread(pid_t thread, int signal);

} // namespace lockrun::sys
