#include "sys/signal.hpp"

#include "sys/raw.hpp"

#include <cerrno>
#include <mutex>

#include <pthread.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace lockrun::sys {
namespace {

Disposition disposition_of(const struct ::sigaction& action)
{
  // SIG_IGN and SIG_DFL are compared only when there is no three-argument handler in their place.
  if ((action.sa_flags & SA_SIGINFO) != 0) { return Disposition::handled; }
  if (action.sa_handler == SIG_IGN) { return Disposition::ignored; }
  return action.sa_handler == SIG_DFL ? Disposition::standard : Disposition::handled;
}

SignalSet change_mask(int how, const SignalSet& signals)
{
  SignalSet before;
  ::pthread_sigmask(how, &signals.raw(), &before.raw()); // fails only for a wrong `how`
  return before;
}

Result<struct ::sigaction> change_action(int signal, void (*handler)(int))
{
  struct ::sigaction action {};
  action.sa_handler = handler;
  struct ::sigaction before {};
  if (::sigaction(signal, &action, &before) != 0) { return tl::unexpected(SysError{"sigaction", errno}); }
  return before;
}

} // namespace

SignalSet block_signals(const SignalSet& signals)
{
  return change_mask(SIG_BLOCK, signals);
}

SignalSet unblock_signals(const SignalSet& signals)
{
  return change_mask(SIG_UNBLOCK, signals);
}

SignalSet set_signal_mask(const SignalSet& mask)
{
  return change_mask(SIG_SETMASK, mask);
}

Result<std::optional<Signal>> wait_signal(const SignalSet& signals, std::optional<std::chrono::nanoseconds> patience)
{
  ::siginfo_t info{};
  int number = -1;
  if (patience) {
    const auto whole = std::chrono::duration_cast<std::chrono::seconds>(*patience);
    const timespec limit{whole.count(), (*patience - whole).count()};
    number = ::sigtimedwait(&signals.raw(), &info, &limit);
  } else {
    number = ::sigwaitinfo(&signals.raw(), &info);
  }
  if (number > 0) { return Signal{number, info.si_code, info.si_pid}; }
  if (errno == EAGAIN || errno == EINTR) { return std::optional<Signal>(); }
  return tl::unexpected(SysError{"sigtimedwait", errno});
}

Result<Descriptor> signal_descriptor(const SignalSet& signals)
{
  const int fd = ::signalfd(-1, &signals.raw(), SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) { return tl::unexpected(SysError{"signalfd", errno}); }
  return Descriptor(fd);
}

Result<std::optional<Signal>> read_signal(const Descriptor& signals)
{
  signalfd_siginfo info{};
  while (::read(signals.get(), &info, sizeof info) < 0) {
    if (errno == EAGAIN) { return std::optional<Signal>(); }
    if (errno != EINTR) { return tl::unexpected(SysError{"read", errno}); }
  }
  return Signal{static_cast<int>(info.ssi_signo), info.ssi_code, static_cast<pid_t>(info.ssi_pid)};
}

Result<Disposition> disposition(int signal)
{
  struct ::sigaction action {};
  if (::sigaction(signal, nullptr, &action) != 0) { return tl::unexpected(SysError{"sigaction", errno}); }
  return disposition_of(action);
}

Result<Disposition> set_disposition(int signal, Disposition wanted)
{
  const auto before = change_action(signal, wanted == Disposition::ignored ? SIG_IGN : SIG_DFL);
  if (!before) { return tl::unexpected(before.error()); }
  return disposition_of(*before);
}

Result<struct ::sigaction> set_interrupting(int signal)
{
  return change_action(signal, [](int) {});
}

void restore_action(int signal, const struct ::sigaction& action)
{
  (void)change_action(signal, SIG_IGN); // the kernel drops what is pending for an ignored signal
  (void)::sigaction(signal, &action, nullptr);
}

int wake_signal()
{
  return SIGURG;
}

namespace {

// What wake_signal() did before the first one of those who want it to interrupt.
struct Interruptions {
  std::mutex mutex;
  int count = 0;
  struct ::sigaction before {};
};

Interruptions& interruptions()
{
  static constinit Interruptions all;
  return all;
}

} // namespace

Result<Interruptible> Interruptible::create()
{
  Interruptions& all = interruptions();
  const std::lock_guard guard(all.mutex);
  if (all.count == 0) {
    const auto before = set_interrupting(wake_signal());
    if (!before) { return tl::unexpected(before.error()); }
    all.before = *before;
  }
  ++all.count;
  return Interruptible();
}

Interruptible::~Interruptible()
{
  if (!m_owns) { return; }
  Interruptions& all = interruptions();
  const std::lock_guard guard(all.mutex);
  if (--all.count == 0) { restore_action(wake_signal(), all.before); }
}

Result<void> kill(pid_t pid, int signal)
{
  if (::kill(pid, signal) != 0) { return tl::unexpected(SysError{"kill", errno}); }
  return {};
}

Result<void> kill_thread(pid_t thread, int signal)
{
  const auto sent = raw_call("tgkill", SYS_tgkill, ::getpid(), thread, signal);
  if (!sent) { return tl::unexpected(sent.error()); }
  return {};
}

} // namespace lockrun::sys
