#include "support/fake_sys.hpp"

#include "sys/channel.hpp"
#include "sys/clock.hpp"
#include "sys/descriptor.hpp"
#include "sys/file.hpp"
#include "sys/interruption.hpp"
#include "sys/lock.hpp"
#include "sys/memory.hpp"
#include "sys/mount.hpp"
#include "sys/passwd.hpp"
#include "sys/proc.hpp"
#include "sys/process.hpp"
#include "sys/program.hpp"
#include "sys/raw.hpp"
#include "sys/signal.hpp"
#include "sys/socket.hpp"
#include "sys/terminal.hpp"
#include "sys/thread.hpp"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <utility>

#include <fmt/core.h>

namespace lockrun::testing {
namespace {

FakeSys* current = nullptr;

FakeSys::Answer take(const char* function, const std::string& arguments = {})
{
  if (current == nullptr) {
    (void)std::fprintf(stderr, "%s was called without a FakeSys\n", function);
    std::abort();
  }
  auto answer = current->take(function, arguments);
  if (answer.deed) { answer.deed(); }
  return answer;
}

// For functions that cannot fail.
template <class T>
T value(const char* function, const std::string& arguments, T otherwise)
{
  const auto answer = take(function, arguments);
  return answer.value.has_value() ? std::any_cast<T>(answer.value) : otherwise;
}

template <class T>
Result<T> scripted(const char* function, const std::string& arguments, T otherwise)
{
  const auto answer = take(function, arguments);
  if (answer.code != 0) { return tl::unexpected(SysError{function, answer.code}); }
  return answer.value.has_value() ? std::any_cast<T>(answer.value) : otherwise;
}

Result<void> scripted(const char* function, const std::string& arguments = {})
{
  const auto answer = take(function, arguments);
  if (answer.code != 0) { return tl::unexpected(SysError{function, answer.code}); }
  return {};
}

Result<sys::Descriptor> scripted_descriptor(const char* function, const std::string& arguments)
{
  const auto answer = take(function, arguments);
  if (answer.code != 0) { return tl::unexpected(SysError{function, answer.code}); }
  return sys::Descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

std::string text(int flags)
{
  struct Name {
    int bit;
    const char* name;
  };
  constexpr Name k_names[] = {{O_CREAT, "O_CREAT"}, {O_EXCL, "O_EXCL"}, {O_TRUNC, "O_TRUNC"}, {O_PATH, "O_PATH"},
    {O_TMPFILE, "O_TMPFILE"}, {O_APPEND, "O_APPEND"}, {O_NONBLOCK, "O_NONBLOCK"}, {O_DIRECTORY, "O_DIRECTORY"},
    {O_NOFOLLOW, "O_NOFOLLOW"}};
  std::string result = (flags & O_ACCMODE) == O_RDWR     ? "O_RDWR"
                       : (flags & O_ACCMODE) == O_WRONLY ? "O_WRONLY"
                                                         : "O_RDONLY";
  for (const Name& entry : k_names) {
    if ((flags & entry.bit) == entry.bit) { result += std::string("|") + entry.name; }
  }
  return result;
}

const char* text(Mode mode)
{
  return mode == Mode::shared ? "shared" : "exclusive";
}

const char* text(Wait wait)
{
  return wait == Wait::never ? "never" : "allowed";
}

std::string text(const Range& range)
{
  return fmt::format("{}+{}", range.start, range.length);
}

sys::FileStatus a_file()
{
  sys::FileStatus status;
  status.identity = {1, 1};
  status.type = sys::FileType::regular;
  status.links = 1;
  return status;
}

} // namespace

FakeSys::FakeSys()
{
  current = this;
}

FakeSys::~FakeSys()
{
  current = nullptr;
}

FakeSys::Answer FakeSys::take(const std::string& function, const std::string& arguments)
{
  m_calls.push_back(function + "(" + arguments + ")");
  auto& queue = m_answers[function];
  if (queue.empty()) { return {}; }
  Answer answer = std::move(queue.front());
  queue.pop_front();
  return answer;
}

std::vector<std::string> FakeSys::calls(const std::string& function) const
{
  std::vector<std::string> result;
  for (const std::string& call : m_calls) {
    if (call.compare(0, function.size() + 1, function + "(") == 0) { result.push_back(call); }
  }
  return result;
}

std::size_t FakeSys::unused_answers() const
{
  std::size_t result = 0;
  for (const auto& [function, queue] : m_answers) { result += queue.size(); }
  return result;
}

int open_descriptors()
{
  return static_cast<int>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

} // namespace lockrun::testing

namespace lockrun::sys {

using std::chrono::nanoseconds;
using testing::scripted;
using testing::scripted_descriptor;
using testing::take;
using testing::text;
using testing::value;

// --- clock ---

nanoseconds thread_time()
{
  return value("thread_time", "", nanoseconds(0));
}

nanoseconds steady_now()
{
  return value("steady_now", "", nanoseconds(0));
}

nanoseconds elapsed_now()
{
  return value("elapsed_now", "", nanoseconds(0));
}

nanoseconds wall_now()
{
  return value("wall_now", "", nanoseconds(0));
}

Result<Alarm> Alarm::create(int signal)
{
  const auto created = scripted("Alarm::create", fmt::format("{}", signal));
  if (!created) { return tl::unexpected(created.error()); }
  return Alarm(timer_t{});
}

Alarm::~Alarm() = default;

Result<void> Alarm::set(nanoseconds moment)
{
  return scripted("Alarm::set", fmt::format("{}", moment.count()));
}

// --- file ---

Result<Descriptor> open(const char* path, int flags, mode_t mode)
{
  const std::string made = (flags & O_CREAT) != 0 ? fmt::format(", {:04o}", mode) : "";
  return scripted_descriptor("open", fmt::format("'{}', {}{}", path, text(flags), made));
}

Result<FileStatus> fstat(const Descriptor&)
{
  return scripted("fstat", "", testing::a_file());
}

Result<FileStatus> stat(const char* path)
{
  return scripted("stat", fmt::format("'{}'", path), testing::a_file());
}

Result<FileStatus> lstat(const char* path)
{
  return scripted("lstat", fmt::format("'{}'", path), testing::a_file());
}

Result<void> access(const char* path, int how)
{
  return scripted("access", fmt::format("'{}', {}", path, how));
}

Result<std::string> beginning_of(const char* path, std::size_t bytes)
{
  return scripted("beginning_of", fmt::format("'{}', {}", path, bytes), std::string());
}

Result<std::uint32_t> file_system_type(const Descriptor&)
{
  return scripted("file_system_type", "", std::uint32_t{0xEF53}); // EXT4_SUPER_MAGIC
}

Result<void> unlink(const char* path)
{
  return scripted("unlink", fmt::format("'{}'", path));
}

Result<void> mkdir(const char* path, mode_t mode)
{
  return scripted("mkdir", fmt::format("'{}', {:04o}", path, mode));
}

Result<void> link(const Descriptor&, const char* path)
{
  return scripted("link", fmt::format("'{}'", path));
}

Result<void> change_mode(const Descriptor&, mode_t mode)
{
  return scripted("change_mode", fmt::format("{:04o}", mode));
}

Result<std::string> link_target(const Descriptor&)
{
  return scripted("link_target", "", std::string());
}

Result<std::string> device_class(dev_t)
{
  return scripted("device_class", "", std::string());
}

Result<Descriptor> duplicate(int fd, int lowest)
{
  return scripted_descriptor("duplicate", fmt::format("{}, {}", fd, lowest));
}

Result<void> let_inherit(const Descriptor&)
{
  return scripted("let_inherit");
}

Result<void> seek(const Descriptor&, std::int64_t offset)
{
  return scripted("seek", fmt::format("{}", offset));
}

Result<std::size_t> write(const Descriptor&, std::string_view bytes)
{
  return scripted("write", fmt::format("'{}'", bytes), bytes.size());
}

Result<void> write_standard_error(std::string_view text)
{
  return scripted("write_standard_error", fmt::format("'{}'", text));
}

Result<std::size_t> offer(const Descriptor&, std::string_view text, std::chrono::milliseconds)
{
  return scripted("offer", fmt::format("'{}'", text), text.size());
}

Result<void> offer_standard_error(std::string_view text, std::chrono::milliseconds)
{
  return scripted("offer_standard_error", fmt::format("'{}'", text));
}

Result<void> write_standard_output(std::string_view text)
{
  return scripted("write_standard_output", fmt::format("'{}'", text));
}

Result<unsigned> closed_standard_descriptors()
{
  return scripted("closed_standard_descriptors", "", 0U);
}

// --- lock ---

Result<Attempt> flock(const Descriptor&, Mode mode, Wait wait)
{
  return scripted("flock", fmt::format("{}, {}", text(mode), text(wait)), Attempt::acquired);
}

Result<void> flock_unlock(const Descriptor&)
{
  return scripted("flock_unlock");
}

Result<Attempt> ofd_lock(const Descriptor&, Mode mode, const Range& range, Wait wait)
{
  return scripted("ofd_lock", fmt::format("{}, {}, {}", text(mode), text(range), text(wait)), Attempt::acquired);
}

Result<void> ofd_unlock(const Descriptor&, const Range& range)
{
  return scripted("ofd_unlock", text(range));
}

Result<Attempt> posix_lock(const Descriptor&, Mode mode, const Range& range, Wait wait)
{
  return scripted("posix_lock", fmt::format("{}, {}, {}", text(mode), text(range), text(wait)), Attempt::acquired);
}

Result<void> posix_unlock(const Descriptor&, const Range& range)
{
  return scripted("posix_unlock", text(range));
}

Result<std::optional<Conflict>> posix_conflict(const Descriptor&, Mode mode, const Range& range)
{
  return scripted("posix_conflict", fmt::format("{}, {}", text(mode), text(range)), std::optional<Conflict>());
}

Result<std::optional<Conflict>> ofd_conflict(const Descriptor&, Mode mode, const Range& range)
{
  return scripted("ofd_conflict", fmt::format("{}, {}", text(mode), text(range)), std::optional<Conflict>());
}

// --- process ---

SysError execute(const Program& program)
{
  return {"execve", take("execute", fmt::format("'{}'", program.file)).code};
}

Result<Launch> start(const Program& program)
{
  const auto pid = scripted("start", fmt::format("'{}'", program.file), pid_t{0});
  if (!pid) { return tl::unexpected(pid.error()); }
  return Launch(*pid, nullptr);
}

std::optional<SysError> Launch::failure() const
{
  return std::nullopt;
}

Result<pid_t> fork()
{
  return scripted("fork", "", pid_t{0});
}

Result<std::optional<ChildChange>> wait_child(pid_t child, int)
{
  return scripted("wait_child", fmt::format("{}", child), std::optional<ChildChange>());
}

pid_t process_id()
{
  return value("process_id", "", pid_t{0});
}

pid_t parent_process()
{
  return value("parent_process", "", pid_t{0});
}

uid_t effective_user()
{
  return value("effective_user", "", uid_t{0});
}

bool leads_session()
{
  return value("leads_session", "", false);
}

Result<pid_t> process_group(pid_t pid)
{
  return scripted("process_group", fmt::format("{}", pid), pid_t{0});
}

Result<Descriptor> open_process(pid_t pid)
{
  return scripted_descriptor("open_process", fmt::format("{}", pid));
}

Result<void> signal_process(const Descriptor&, int signal)
{
  return scripted("signal_process", fmt::format("{}", signal));
}

Result<void> become_subreaper()
{
  return scripted("become_subreaper");
}

Result<void> die_with_parent()
{
  return scripted("die_with_parent");
}

std::vector<char*> environment_with(std::span<const std::string>)
{
  return {nullptr};
}

const char* environment(const char* name)
{
  return value("environment", name, static_cast<const char*>(nullptr));
}

void set_process_name(const char* name)
{
  (void)take("set_process_name", name);
}

Result<std::string> program_path()
{
  return scripted("program_path", "", std::string("/bin/lockrun"));
}

Result<std::string> host_name()
{
  return scripted("host_name", "", std::string("host"));
}

Result<SocketPair> socket_pair(SocketKind)
{
  auto ours = scripted_descriptor("socket_pair", "");
  if (!ours) { return tl::unexpected(ours.error()); }
  return SocketPair{std::move(*ours), Descriptor()};
}

Result<std::size_t> receive(const Descriptor&, std::span<std::byte>)
{
  return scripted("receive", "", std::size_t{0});
}

Result<std::size_t> send(const Descriptor&, std::span<const std::byte> bytes)
{
  return scripted("send", "", bytes.size());
}

Result<void> send_message(const char* path, const std::string& text, std::chrono::milliseconds)
{
  return scripted("send_message", fmt::format("'{}', '{}'", path, text));
}

Result<unsigned> wait_readable(std::initializer_list<const Descriptor*>, std::optional<std::chrono::nanoseconds>)
{
  return scripted("wait_readable", "", 0U);
}

Result<void*> shared_memory(std::size_t bytes)
{
  return scripted("shared_memory", fmt::format("{}", bytes), static_cast<void*>(nullptr));
}

Result<Descriptor> signal_descriptor(const SignalSet&)
{
  return scripted_descriptor("signal_descriptor", "");
}

Result<std::optional<Signal>> read_signal(const Descriptor&)
{
  return scripted("read_signal", "", std::optional<Signal>());
}

void exit_now(int status)
{
  (void)take("exit_now", fmt::format("{}", status));
  throw testing::ExitNow{status};
}

// --- mount ---

Result<Mount> mount_of(const Descriptor&)
{
  return scripted("mount_of", "", Mount{"ext4", "/", "rw"});
}

FileIdentity identity_in_locks(int, const FileIdentity& status)
{
  return value("identity_in_locks", "", status);
}

// --- passwd ---

std::optional<std::string> user_name(uid_t user, const char*)
{
  return value("user_name", fmt::format("{}", user), std::optional<std::string>());
}

// --- proc ---

Result<std::vector<int>> descriptors_of(pid_t pid, const FileIdentity&)
{
  return scripted("descriptors_of", fmt::format("{}", pid), std::vector<int>());
}

Result<std::vector<int>> descriptors_of(pid_t pid)
{
  return scripted("descriptors_of", fmt::format("{}", pid), std::vector<int>());
}

Result<FileStatus> descriptor_status(pid_t pid, int fd)
{
  return scripted("descriptor_status", fmt::format("{}, {}", pid, fd), testing::a_file());
}

Result<std::string> descriptor_path(pid_t pid, int fd)
{
  return scripted("descriptor_path", fmt::format("{}, {}", pid, fd), std::string());
}

Result<Description> compare_descriptions(pid_t pid, int fd, pid_t other_pid, int other_fd)
{
  return scripted(
    "compare_descriptions", fmt::format("{}, {}, {}, {}", pid, fd, other_pid, other_fd), Description::separate);
}

Result<std::vector<LockLine>> locks_of(pid_t pid, int fd)
{
  return scripted("locks_of", fmt::format("{}, {}", pid, fd), std::vector<LockLine>());
}

Result<DescriptorInfo> descriptor_info(pid_t pid, int fd)
{
  return scripted("descriptor_info", fmt::format("{}, {}", pid, fd), DescriptorInfo());
}

Result<std::vector<LockLine>> all_locks()
{
  return scripted("all_locks", "", std::vector<LockLine>());
}

Result<LockList> all_locks_checked()
{
  return scripted("all_locks_checked", "", LockList());
}

Result<std::string> command_line(pid_t pid)
{
  return scripted("command_line", fmt::format("{}", pid), std::string());
}

Result<std::string> read_file(const char* path)
{
  return scripted("read_file", path, std::string());
}

Result<uid_t> user_of(pid_t pid)
{
  return scripted("user_of", fmt::format("{}", pid), uid_t{0});
}

Result<void> check_proc()
{
  return scripted("check_proc");
}

Result<ProcessStatus> process_status(pid_t pid)
{
  return scripted("process_status", fmt::format("{}", pid), ProcessStatus());
}

nanoseconds started(const ProcessStatus&)
{
  return value("started", "", nanoseconds(0));
}

Result<std::vector<pid_t>> children()
{
  return scripted("children", "", std::vector<pid_t>());
}

Result<std::vector<pid_t>> children_of(pid_t pid)
{
  return scripted("children_of", fmt::format("{}", pid), std::vector<pid_t>());
}

Result<std::vector<ProcessStatus>> all_processes()
{
  return scripted("all_processes", "", std::vector<ProcessStatus>());
}

// --- raw ---

Result<long> raw_call_words(const char* name, long, const long (&)[6])
{
  return scripted("raw_call", name, 0L);
}

// --- signal ---

SignalSet block_signals(const SignalSet&)
{
  return value("block_signals", "", SignalSet());
}

SignalSet unblock_signals(const SignalSet&)
{
  return value("unblock_signals", "", SignalSet());
}

SignalSet set_signal_mask(const SignalSet&)
{
  return value("set_signal_mask", "", SignalSet());
}

Result<std::optional<Signal>> wait_signal(const SignalSet&, std::optional<nanoseconds>)
{
  return scripted("wait_signal", "", std::optional<Signal>());
}

Result<Disposition> disposition(int signal)
{
  return scripted("disposition", fmt::format("{}", signal), Disposition::standard);
}

Result<Disposition> set_disposition(int signal, Disposition)
{
  return scripted("set_disposition", fmt::format("{}", signal), Disposition::standard);
}

Result<struct ::sigaction> set_interrupting(int signal)
{
  struct ::sigaction none {};
  return scripted("set_interrupting", fmt::format("{}", signal), none);
}

void restore_action(int signal, const struct ::sigaction&)
{
  (void)take("restore_action", fmt::format("{}", signal));
}

int wake_signal()
{
  return SIGURG;
}

Result<Interruptible> Interruptible::create()
{
  const auto made = scripted("set_interrupting", fmt::format("{}", wake_signal()));
  if (!made) { return tl::unexpected(made.error()); }
  return Interruptible();
}

Interruptible::~Interruptible()
{
  if (m_owns) { (void)take("restore_action", fmt::format("{}", wake_signal())); }
}

Result<void> kill(pid_t pid, int signal)
{
  return scripted("kill", fmt::format("{}, {}", pid, signal));
}

Result<void> kill_thread(pid_t thread, int signal)
{
  return scripted("kill_thread", fmt::format("{}, {}", thread, signal));
}

// --- terminal ---

bool owns_terminal()
{
  return value("owns_terminal", "", false);
}

bool is_in_background()
{
  return value("is_in_background", "", false);
}

std::optional<unsigned> terminal_columns()
{
  return value("terminal_columns", "", std::optional<unsigned>());
}

std::optional<unsigned> output_columns()
{
  return value("output_columns", "", std::optional<unsigned>());
}

// --- interruption ---

struct Interruption::State {};

Interruption::Interruption(std::unique_ptr<State> state) noexcept : m_state(std::move(state)) {}
Interruption::Interruption(Interruption&&) noexcept = default;

Result<Interruption> Interruption::create(const SignalSet&, std::optional<nanoseconds>)
{
  const auto made = scripted("Interruption::create");
  if (!made) { return tl::unexpected(made.error()); }
  return Interruption(std::make_unique<State>());
}

Interruption::~Interruption()
{
  if (m_state) { (void)take("~Interruption"); }
}

int Interruption::signal() const noexcept
{
  return value("Interruption::signal", "", 0);
}

// --- thread ---

Result<Thread> start_thread(void* (*)(void*), void*, std::size_t)
{
  return scripted("start_thread", "", Thread());
}

void share_heap()
{
  (void)take("share_heap");
}

void detach(const Thread&)
{
  (void)take("detach");
}

Result<void> join(const Thread&)
{
  return scripted("join");
}

Result<Joined> join_within(const Thread&, nanoseconds)
{
  return scripted("join_within", "", Joined::yes);
}

pid_t thread_id()
{
  return value("thread_id", "", pid_t{0});
}

} // namespace lockrun::sys
