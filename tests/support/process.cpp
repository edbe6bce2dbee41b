#include "support/process.hpp"

#include "support/temp_dir.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sched.h>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <grp.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace lockrun::testing {
namespace {

[[noreturn]] void fail(const std::string& what, int code = errno)
{
  throw std::system_error(code, std::generic_category(), what);
}

// A descriptor of ours, out of the way of those that the program gets by number.
class Owned {
public:
  explicit Owned(int fd = -1) : m_fd(fd)
  {
    if (fd < 0) { return; }
    m_fd = ::fcntl(fd, F_DUPFD_CLOEXEC, 100);
    if (m_fd < 0) { fail("fcntl(F_DUPFD_CLOEXEC)"); }
    ::close(fd);
  }
  Owned(Owned&& other) noexcept : m_fd(std::exchange(other.m_fd, -1)) {}
  Owned& operator=(Owned&& other) noexcept
  {
    std::swap(m_fd, other.m_fd);
    return *this;
  }
  ~Owned() { close(); }
  void close()
  {
    if (m_fd >= 0) { ::close(std::exchange(m_fd, -1)); }
  }
  int get() const noexcept { return m_fd; }

private:
  int m_fd;
};

int take(int& fd)
{
  return std::exchange(fd, -1);
}

// The program's side of one standard descriptor, and ours.
struct Stream {
  Owned theirs;
  Owned ours;
};

Stream open_stream(const Redirect& redirect, int number)
{
  Stream stream;
  switch (redirect.kind) {
  case Redirect::Kind::closed:
    break;
  case Redirect::Kind::inherited:
    stream.theirs = Owned(::fcntl(number, F_DUPFD_CLOEXEC, 100));
    break;
  case Redirect::Kind::null:
    stream.theirs = Owned(::open("/dev/null", O_RDWR | O_CLOEXEC));
    break;
  case Redirect::Kind::file: {
    const int flags = number == 0 ? O_RDONLY : O_WRONLY | O_CREAT | O_APPEND;
    const int fd = ::open(redirect.path.c_str(), flags | O_CLOEXEC, 0644);
    if (fd < 0) { fail(redirect.path); }
    stream.theirs = Owned(fd);
    break;
  }
  case Redirect::Kind::captured:
    stream.ours = Owned(::memfd_create("captured", MFD_CLOEXEC));
    stream.theirs = Owned(::fcntl(stream.ours.get(), F_DUPFD_CLOEXEC, 100));
    break;
  case Redirect::Kind::pipe: {
    Pipe pipe;
    stream.theirs = Owned(take(number == 0 ? pipe.read_end : pipe.write_end));
    stream.ours = Owned(take(number == 0 ? pipe.write_end : pipe.read_end));
    break;
  }
  }
  return stream;
}

std::string contents(int fd)
{
  struct ::stat status {};
  if (fd < 0 || ::fstat(fd, &status) != 0) { return {}; }
  std::string bytes(static_cast<std::size_t>(status.st_size), '\0');
  const ssize_t got = ::pread(fd, bytes.data(), bytes.size(), 0);
  bytes.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  return bytes;
}

std::vector<char*> pointers(std::vector<std::string>& words)
{
  std::vector<char*> result;
  for (std::string& word : words) { result.push_back(word.data()); }
  result.push_back(nullptr);
  return result;
}

std::vector<std::string> environment_with(const std::map<std::string, std::optional<std::string>>& changes)
{
  std::vector<std::string> words;
  for (char** word = environ; *word != nullptr; ++word) {
    const std::string text = *word;
    if (changes.find(text.substr(0, text.find('='))) == changes.end()) { words.push_back(text); }
  }
  for (const auto& [name, value] : changes) {
    if (value) { words.push_back(name + "=" + *value); }
  }
  return words;
}

void start_clean()
{
  for (int number = 1; number < NSIG; ++number) { (void)::signal(number, SIG_DFL); } // some cannot be set
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::umask(022);
  ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
}

WaitStatus wait_for(pid_t pid)
{
  int status = 0;
  pid_t ended = -1;
  do {
    ended = ::waitpid(pid, &status, 0);
  } while (ended < 0 && errno == EINTR);
  if (ended != pid) { fail("waitpid"); }
  return WIFEXITED(status) ? exited(WEXITSTATUS(status)) : killed(WTERMSIG(status));
}

bool contains(const std::string& file, std::string_view bytes)
{
  std::ifstream in(file, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(in)), {}).find(bytes) != std::string::npos;
}

} // namespace

std::ostream& operator<<(std::ostream& out, const WaitStatus& status)
{
  return out << (status.kind == WaitStatus::Kind::exited ? "exited with " : "killed by signal ") << status.value;
}

Forked::Forked(const std::function<int()>& body)
{
  (void)std::fflush(nullptr);
  m_pid = ::fork();
  if (m_pid < 0) { fail("fork"); }
  if (m_pid != 0) { return; }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  int status = 125;
  try {
    status = body();
  } catch (const std::exception& error) {
    (void)std::fprintf(stderr, "in a forked process: %s\n", error.what());
  }
  (void)std::fflush(nullptr);
  ::_exit(status);
}

Forked::~Forked()
{
  if (m_pid > 0) { (void)kill(); }
}

Forked::Forked(Forked&& other) noexcept : m_pid(std::exchange(other.m_pid, -1)) {}

void Forked::signal(int number) const
{
  if (::kill(m_pid, number) != 0) { fail("kill"); }
}

WaitStatus Forked::wait()
{
  return wait_for(std::exchange(m_pid, -1));
}

WaitStatus Forked::kill()
{
  signal(SIGKILL);
  return wait();
}

std::string word_of_status(pid_t pid, const std::string& name)
{
  std::istringstream words(read_file("/proc/" + std::to_string(pid) + "/status"));
  for (std::string word; words >> word;) {
    if (word == name && words >> word) { return word; }
  }
  return {};
}

pid_t parent_of(pid_t pid)
{
  const std::string word = word_of_status(pid, "PPid:");
  return word.empty() ? 0 : std::stoi(word);
}

char state_of(pid_t pid)
{
  const std::string line = read_file("/proc/" + std::to_string(pid) + "/stat");
  const auto name_end = line.rfind(") ");
  return name_end == std::string::npos ? '\0' : line[name_end + 2];
}

bool lives(pid_t pid)
{
  const char state = state_of(pid);
  return state != '\0' && state != 'Z';
}

bool has_stopped(pid_t pid)
{
  std::error_code gone;
  std::filesystem::directory_iterator threads("/proc/" + std::to_string(pid) + "/task", gone);
  bool has_any = false;
  for (; !gone && threads != std::filesystem::directory_iterator(); threads.increment(gone)) {
    if (state_of(std::stoi(threads->path().filename())) != 'T') { return false; }
    has_any = true;
  }
  return has_any && !gone;
}

bool is_asleep(pid_t pid)
{
  const char state = state_of(pid);
  return state != '\0' && std::string("SDTt").find(state) != std::string::npos;
}

uid_t lonely_user()
{
  return 1'000'000'000 + static_cast<uid_t>(::getpid());
}

bool blocks_signal(pid_t pid, int signal)
{
  const std::string blocked = word_of_status(pid, "SigBlk:");
  return !blocked.empty() && ((std::stoull(blocked, nullptr, 16) >> (signal - 1)) & 1) != 0;
}

namespace hostile {

std::function<void()> ignore(int signal)
{
  return [signal] { ::signal(signal, SIG_IGN); };
}

std::function<void()> block(int signal)
{
  return [signal] {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, signal);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
  };
}

std::function<void()> limit(decltype(RLIMIT_NOFILE) resource, rlim_t value)
{
  return limit(resource, value, value);
}

std::function<void()> limit(decltype(RLIMIT_NOFILE) resource, rlim_t value, rlim_t hard)
{
  return [resource, value, hard] {
    const rlimit both{value, hard};
    if (::setrlimit(resource, &both) != 0) { fail("setrlimit"); }
  };
}

std::function<void()> umask(mode_t mask)
{
  return [mask] { ::umask(mask); };
}

std::function<void()> become_user(uid_t user)
{
  return [user] {
    if (::setgroups(0, nullptr) != 0 || ::setgid(user) != 0 || ::setuid(user) != 0) { fail("setuid"); }
  };
}

std::function<void()> new_session()
{
  return [] { ::setsid(); };
}

std::function<void()> replace_file(const std::filesystem::path& path, const std::filesystem::path& with)
{
  return [path, with] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount(with.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0) {
      fail("mount");
    }
  };
}

} // namespace hostile

struct Process::State {
  Forked child;
  Owned in;
  Owned out;
  Owned err;
  std::array<std::string, 2> read_ahead{};

  std::optional<std::string> line(int fd, std::string& buffer)
  {
    for (;;) {
      if (const auto end = buffer.find('\n'); end != std::string::npos) {
        std::string result = buffer.substr(0, end);
        buffer.erase(0, end + 1);
        return result;
      }
      char bytes[4096];
      const ssize_t got = ::read(fd, bytes, sizeof bytes);
      if (got > 0) {
        buffer.append(bytes, static_cast<std::size_t>(got));
      } else if (got == 0 || errno != EINTR) {
        return buffer.empty() ? std::nullopt : std::optional<std::string>(std::exchange(buffer, {}));
      }
    }
  }
};

Process::Process(const std::vector<std::string>& argv, const Start& start)
{
  Stream streams[3] = {open_stream(start.in, 0), open_stream(start.out, 1), open_stream(start.err, 2)};
  std::vector<Owned> given;
  for (const auto& [number, ours] : start.descriptors) { given.emplace_back(::fcntl(ours, F_DUPFD_CLOEXEC, 100)); }
  std::vector<std::string> words = argv;
  std::vector<std::string> environment = environment_with(start.environment);
  const auto argv_pointers = pointers(words);
  const auto environment_pointers = pointers(environment);
  Pipe trouble_pipe; // closed by a successful exec, otherwise it brings an errno
  const Owned trouble(take(trouble_pipe.write_end));

  const auto become = [&]() -> int {
    start_clean();
    for (int number = 0; number < 3; ++number) {
      const int theirs = streams[number].theirs.get();
      if (theirs >= 0) {
        ::dup2(theirs, number);
      } else {
        ::close(number);
      }
    }
    auto source = given.begin();
    for (const auto& [number, ours] : start.descriptors) { ::dup2((source++)->get(), number); }
    if (start.directory && ::chdir(start.directory->c_str()) != 0) { return errno; }
    try {
      for (const auto& hook : start.before_exec) { hook(); }
    } catch (const std::system_error& error) {
      return error.code().value();
    }
    ::execvpe(argv_pointers[0], argv_pointers.data(), environment_pointers.data());
    return errno;
  };
  m_state.reset(new State{Forked([&] {
                            const int code = become();
                            (void)!::write(trouble.get(), &code, sizeof code); // nobody to tell if it fails
                            return 127;
                          }),
    std::move(streams[0].ours), std::move(streams[1].ours), std::move(streams[2].ours)});
  const_cast<Owned&>(trouble).close();
  int code = 0;
  if (::read(trouble_pipe.read_end, &code, sizeof code) == static_cast<ssize_t>(sizeof code)) {
    (void)m_state->child.wait();
    fail("cannot start " + argv[0], code);
  }
}

Process::~Process() = default;
Process::Process(Process&&) noexcept = default;

pid_t Process::pid() const noexcept
{
  return m_state->child.pid();
}

void Process::signal(int number) const
{
  m_state->child.signal(number);
}

void Process::write(const std::string& bytes)
{
  if (::write(m_state->in.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) { fail("write"); }
}

void Process::close_input()
{
  m_state->in.close();
}

std::optional<std::string> Process::out_line()
{
  return m_state->line(m_state->out.get(), m_state->read_ahead[0]);
}

std::optional<std::string> Process::err_line()
{
  return m_state->line(m_state->err.get(), m_state->read_ahead[1]);
}

std::string Process::out_so_far() const
{
  return contents(m_state->out.get());
}

std::string Process::err_so_far() const
{
  return contents(m_state->err.get());
}

Finished Process::wait()
{
  const WaitStatus status = m_state->child.wait();
  return {status, out_so_far(), err_so_far()};
}

Finished run_program(const std::vector<std::string>& argv, const Start& start)
{
  return Process(argv, start).wait();
}

std::string lockrun_binary()
{
  const char* const chosen = std::getenv("LOCKRUN_BINARY");
  return chosen != nullptr ? chosen : LOCKRUN_BINARY;
}

bool is_sanitized(const std::string& program)
{
  return contains(program, "__asan_init") || has_thread_sanitizer(program);
}

bool has_thread_sanitizer(const std::string& program)
{
  return contains(program, "__tsan_init");
}

std::vector<std::string> lockrun_argv(const std::vector<std::string>& arguments)
{
  std::vector<std::string> argv{lockrun_binary()};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return argv;
}

Finished run_lockrun(const std::vector<std::string>& arguments, const Start& start)
{
  return run_program(lockrun_argv(arguments), start);
}

} // namespace lockrun::testing
