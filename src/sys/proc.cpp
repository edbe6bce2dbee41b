#include "sys/proc.hpp"

#include "sys/again.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <string_view>

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace lockrun::sys {
namespace {

template <class Number>
Number number_of(std::string_view text)
{
  Number value{};
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// "PID (NAME) STATE PPID …": the name may hold anything, so the fields are counted from the last parenthesis.
Result<ProcessStatus> parse_status(std::string_view line)
{
  const auto open = line.find('(');
  const auto close = line.rfind(')');
  if (open == line.npos || close == line.npos || close < open) { return tl::unexpected(SysError{"read", EPROTO}); }
  ProcessStatus status;
  status.pid = number_of<pid_t>(line.substr(0, open));
  status.name = line.substr(open + 1, close - open - 1);
  constexpr unsigned k_state = 3;
  constexpr unsigned k_parent = 4;
  constexpr unsigned k_start = 22;
  std::string_view rest = line.substr(close + 1);
  for (unsigned field = k_state; field <= k_start && !rest.empty(); ++field) {
    rest.remove_prefix(1);
    const std::string_view word = rest.substr(0, rest.find(' '));
    if (field == k_state && !word.empty()) { status.state = word.front(); }
    if (field == k_parent) { status.parent = number_of<pid_t>(word); }
    if (field == k_start) { status.start = number_of<std::uint64_t>(word); }
    rest.remove_prefix(word.size());
  }
  return status;
}

std::string proc_path(pid_t pid, std::string_view rest)
{
  return "/proc/" + std::to_string(pid) + std::string(rest);
}

// A process that is gone shows as a missing file.
SysError gone(SysError error)
{
  return error.code == ENOENT ? SysError{error.call, ESRCH} : error;
}

// Calls `visit` with each entry of a directory, the open directory and the name in it, until it returns false.
// opendir(3) would take 32 KiB from the heap and give them back, once for every ancestor of a waiter.
template <class Visit>
Result<void> for_each_entry(const char* path, Visit visit)
{
  const auto directory = open(path, O_RDONLY | O_DIRECTORY);
  if (!directory) { return tl::unexpected(directory.error()); }
  alignas(dirent64) std::array<char, 1024> buffer; // the kernel makes an inode for each entry that it lists
  for (;;) {
    const ssize_t size = again([&] { return ::getdents64(directory->get(), buffer.data(), buffer.size()); });
    if (size < 0) { return tl::unexpected(SysError{"getdents64", errno}); }
    if (size == 0) { return {}; }
    for (ssize_t at = 0; at < size;) {
      const auto* const entry = reinterpret_cast<const dirent64*>(buffer.data() + at);
      if (!visit(*directory, entry->d_name)) { return {}; }
      at += entry->d_reclen;
    }
  }
}

// The character devices that nearly every process has open: /dev/null and its like, terminals (Linux's devices.txt).
bool is_everywhere(unsigned major)
{
  constexpr unsigned k_memory = 1;
  constexpr unsigned k_own_terminal = 5;
  constexpr unsigned k_first_pseudo_terminal = 136;
  constexpr unsigned k_last_pseudo_terminal = 143;
  return major == k_memory || major == k_own_terminal ||
         (major >= k_first_pseudo_terminal && major <= k_last_pseudo_terminal);
}

// The older call, which has no AT_STATX_DONT_SYNC.
bool stat_as_statx(int directory, const char* entry, struct ::statx& raw)
{
  struct ::stat status {};
  if (again([&] { return ::fstatat(directory, entry, &status, 0); }) != 0) { return false; }
  raw.stx_dev_major = major(status.st_dev);
  raw.stx_dev_minor = minor(status.st_dev);
  raw.stx_rdev_major = major(status.st_rdev);
  raw.stx_rdev_minor = minor(status.st_rdev);
  raw.stx_ino = status.st_ino;
  raw.stx_size = static_cast<std::uint64_t>(status.st_size);
  raw.stx_mode = static_cast<std::uint16_t>(status.st_mode);
  return true;
}

// What is behind an entry of /proc/PID/fd. A file server that may be dead is not asked (AT_STATX_DONT_SYNC): what it is
// and its number do not change, and the size is what is known here.
Result<FileStatus> behind(int directory, const char* entry)
{
  struct ::statx raw {};
  constexpr unsigned k_wanted = STATX_TYPE | STATX_INO | STATX_SIZE;
  if (again([&] { return ::statx(directory, entry, AT_STATX_DONT_SYNC, k_wanted, &raw); }) != 0) {
    // There is no such call, or a container refuses it (seccomp(2)). glibc makes EINVAL of ENOSYS: it does not know the
    // flag.
    const bool is_refused = errno == ENOSYS || errno == EPERM || errno == EINVAL;
    if (!is_refused || !stat_as_statx(directory, entry, raw)) {
      return tl::unexpected(SysError{"statx", errno == EPERM ? EACCES : errno});
    }
  }
  FileStatus status;
  status.identity = {::makedev(raw.stx_dev_major, raw.stx_dev_minor), raw.stx_ino};
  status.size = static_cast<std::int64_t>(raw.stx_size);
  if (S_ISREG(raw.stx_mode)) { status.type = FileType::regular; }
  if (S_ISDIR(raw.stx_mode)) { status.type = FileType::directory; }
  const bool is_device = S_ISBLK(raw.stx_mode) || (S_ISCHR(raw.stx_mode) && !is_everywhere(raw.stx_rdev_major));
  if (is_device) { status.type = FileType::device; }
  return status;
}

// A file that the kernel shows in one piece: it ends where a read is not filled.
Result<std::string> read_at_once(const std::string& path)
{
  const auto fd = open(path.c_str(), O_RDONLY);
  if (!fd) { return tl::unexpected(fd.error()); }
  std::string content;
  for (;;) {
    char piece[1024];
    const ssize_t count = ::read(fd->get(), piece, sizeof piece);
    if (count < 0 && errno == EINTR) { continue; }
    if (count < 0) { return tl::unexpected(SysError{"read", errno}); }
    content.append(piece, static_cast<std::size_t>(count));
    if (static_cast<std::size_t>(count) < sizeof piece) { return content; }
  }
}

// The next word of a line whose words are separated by blanks.
std::string_view take_word(std::string_view& line)
{
  const auto begin = line.find_first_not_of(" \t\n");
  if (begin == line.npos) { return {}; }
  line.remove_prefix(begin);
  const std::string_view word = line.substr(0, line.find_first_of(" \t\n"));
  line.remove_prefix(word.size());
  return word;
}

// The number behind `name` at the beginning of a line; 0 without such a line.
template <class Number>
Number field(std::string_view text, std::string_view name)
{
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.starts_with(name)) { continue; }
    line.remove_prefix(name.size());
    return number_of<Number>(take_word(line));
  }
  return {};
}

std::optional<LockLine::Kind> kind_of(std::string_view word)
{
  if (word == "FLOCK") { return LockLine::Kind::flock; }
  if (word == "OFDLCK") { return LockLine::Kind::ofd; }
  if (word == "POSIX") { return LockLine::Kind::posix; }
  if (word == "LEASE" || word == "DELEG") { return LockLine::Kind::lease; }
  return std::nullopt;
}

std::vector<LockLine> parse_lock_lines(std::string_view text, std::string_view prefix)
{
  std::vector<LockLine> lines;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.starts_with(prefix)) { continue; }
    line.remove_prefix(prefix.size());
    if (const auto parsed = parse_lock_line(line)) { lines.push_back(*parsed); }
  }
  return lines;
}

// As much as the kernel gives at once from `offset` on; `buffer` grows to hold a whole record.
Result<std::string_view> read_piece(const Descriptor& file, std::string& buffer, std::size_t offset)
{
  for (;;) {
    const ssize_t count = ::pread(file.get(), buffer.data(), buffer.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) { continue; }
    if (count < 0) { return tl::unexpected(SysError{"pread", errno}); }
    const auto size = static_cast<std::size_t>(count);
    if (size < buffer.size()) { return std::string_view(buffer).substr(0, size); }
    buffer.resize(2 * size);
  }
}

// Where the last record of /proc/locks begins: a lock and behind it those who wait for it.
std::size_t last_record(std::string_view text)
{
  std::size_t begin = text.size();
  do {
    begin = begin < 2 ? 0 : text.rfind('\n', begin - 2) + 1; // npos + 1 is the first line
  } while (begin > 0 && text.substr(begin, text.find('\n', begin) - begin).find("->") != text.npos);
  return begin;
}

// The first line without its number.
std::string_view first_lock(std::string_view text)
{
  text = text.substr(0, text.find('\n'));
  return text.substr(std::min(text.find(':'), text.size()));
}

constexpr SysError k_moved{"pread", EAGAIN};

// Each piece repeats the last record of the one before: where it is no longer there, the list has moved.
Result<std::string> read_checked(const Descriptor& file, std::string& buffer)
{
  std::string text;
  for (;;) {
    const std::size_t known = last_record(text);
    const std::size_t repeated = text.size() - known;
    const auto piece = read_piece(file, buffer, known);
    if (!piece) { return tl::unexpected(piece.error()); }
    if (!piece->starts_with(std::string_view(text).substr(known))) { return tl::unexpected(k_moved); }
    text.replace(known, text.npos, *piece);
    if (piece->size() > repeated) { continue; }
    // This is the end, or what follows is too long to come in one piece with what it follows.
    const auto rest = read_piece(file, buffer, text.size());
    if (!rest) { return tl::unexpected(rest.error()); }
    if (rest->empty()) {
      // Unless another lock had gone meanwhile, so that there only seemed to be no more.
      const auto again = read_piece(file, buffer, known);
      if (!again) { return tl::unexpected(again.error()); }
      if (*again != std::string_view(text).substr(known)) { return tl::unexpected(k_moved); }
      return text;
    }
    if (first_lock(*rest) == first_lock(std::string_view(text).substr(known))) { return tl::unexpected(k_moved); }
    text.append(*rest);
  }
}

Result<std::string> read_unchecked(const Descriptor& file, std::string& buffer)
{
  std::string text;
  for (;;) {
    const auto piece = read_piece(file, buffer, text.size());
    if (!piece) { return tl::unexpected(piece.error()); }
    if (piece->empty()) { return text; }
    text.append(*piece);
  }
}

} // namespace

// "1: FLOCK  ADVISORY  WRITE 4312 fe:00:1234 0 EOF", and with "1: -> FLOCK …" a waiter.
std::optional<LockLine> parse_lock_line(std::string_view line)
{
  LockLine lock;
  if (!take_word(line).ends_with(':')) { return std::nullopt; }
  std::string_view word = take_word(line);
  if (word == "->") {
    lock.waits = true;
    word = take_word(line);
  }
  const auto kind = kind_of(word);
  if (!kind) { return std::nullopt; }
  lock.kind = *kind;
  take_word(line); // ADVISORY
  const std::string_view mode = take_word(line);
  if (mode != "READ" && mode != "WRITE") { return std::nullopt; }
  lock.mode = mode == "READ" ? Mode::shared : Mode::exclusive;
  lock.pid = number_of<pid_t>(take_word(line));
  const std::string_view file = take_word(line);
  const auto first = file.find(':');
  const auto second = file.find(':', first + 1);
  if (first == file.npos || second == file.npos) { return std::nullopt; }
  std::from_chars(file.data(), file.data() + first, lock.device_major, 16);
  std::from_chars(file.data() + first + 1, file.data() + second, lock.device_minor, 16);
  lock.inode = number_of<ino_t>(file.substr(second + 1));
  lock.start = number_of<std::int64_t>(take_word(line));
  const std::string_view end = take_word(line);
  lock.end = end == "EOF" ? std::numeric_limits<std::int64_t>::max() : number_of<std::int64_t>(end);
  return lock;
}

Result<std::vector<int>> descriptors_of(pid_t pid)
{
  // To list them and to look behind them are two permissions, and to list many is much work for the kernel. Standard
  // input is there nearly always; where it is not, nothing is lost.
  if (const auto first = descriptor_status(pid, 0); !first && first.error().code == EACCES) {
    return tl::unexpected(first.error());
  }
  std::vector<int> found;
  const auto visited = for_each_entry(proc_path(pid, "/fd").c_str(), [&](const Descriptor&, const char* name) {
    if (*name != '.') { found.push_back(number_of<int>(name)); }
    return true;
  });
  if (!visited) { return tl::unexpected(gone(visited.error())); }
  return found;
}

Result<std::vector<int>> descriptors_of(pid_t pid, const FileIdentity& identity)
{
  std::vector<int> found;
  bool hidden = false;
  const auto visited = for_each_entry(proc_path(pid, "/fd").c_str(), [&](const Descriptor& all, const char* name) {
    if (*name == '.') { return true; }
    const auto status = behind(all.get(), name);
    if (!status) {
      // Listing them may be allowed where looking at them is not (proc_pid_fd(5)), and then none of them can be seen.
      hidden = status.error().code == EACCES;
    } else if (status->identity == identity) {
      found.push_back(number_of<int>(name));
    }
    return !hidden;
  });
  if (!visited) { return tl::unexpected(gone(visited.error())); }
  if (hidden) { return tl::unexpected(SysError{"statx", EACCES}); }
  return found;
}

Result<FileStatus> descriptor_status(pid_t pid, int fd)
{
  return behind(AT_FDCWD, proc_path(pid, "/fd/" + std::to_string(fd)).c_str());
}

Result<std::string> descriptor_path(pid_t pid, int fd)
{
  std::array<char, 4096> path{};
  const std::string link = proc_path(pid, "/fd/" + std::to_string(fd));
  const ssize_t size = again([&] { return ::readlink(link.c_str(), path.data(), path.size()); });
  if (size < 0) { return tl::unexpected(gone(SysError{"readlink", errno})); }
  return std::string(path.data(), static_cast<std::size_t>(size));
}

Result<DescriptorInfo> descriptor_info(pid_t pid, int fd)
{
  const auto text = read_at_once(proc_path(pid, "/fdinfo/" + std::to_string(fd)));
  if (!text) { return tl::unexpected(gone(text.error())); }
  return DescriptorInfo{field<std::int64_t>(*text, "pos:"), field<int>(*text, "mnt_id:"), field<ino_t>(*text, "ino:"),
    parse_lock_lines(*text, "lock:")};
}

Result<Description> compare_descriptions(pid_t pid, int fd, pid_t other_pid, int other_fd)
{
  const long order = ::syscall(SYS_kcmp, pid, other_pid, KCMP_FILE, fd, other_fd);
  if (order < 0) { return tl::unexpected(SysError{"kcmp", errno}); }
  return order == 0 ? Description::shared : Description::separate;
}

Result<std::vector<LockLine>> locks_of(pid_t pid, int fd)
{
  auto info = descriptor_info(pid, fd);
  if (!info) { return tl::unexpected(info.error()); }
  return std::move(info->locks);
}

Result<std::vector<LockLine>> all_locks()
{
  const auto text = read_file("/proc/locks");
  if (!text) { return tl::unexpected(text.error()); }
  return parse_lock_lines(*text, "");
}

Result<LockList> all_locks_checked()
{
  const auto file = open("/proc/locks", O_RDONLY);
  if (!file) { return tl::unexpected(file.error()); }
  std::string buffer(1 << 16, '\0');
  // On its way to a place that is not there the kernel makes its pieces as long as its longest record (seq_file.c):
  // from here on it does not stop to do so between two of them.
  constexpr std::size_t k_nowhere = std::size_t{1} << 40;
  (void)read_piece(*file, buffer, k_nowhere);
  constexpr int k_passes = 100;
  for (int pass = 0; pass < k_passes; ++pass) {
    const auto text = read_checked(*file, buffer);
    if (text) { return LockList{parse_lock_lines(*text, ""), true}; }
    if (text.error().code != EAGAIN) { return tl::unexpected(text.error()); }
  }
  const auto text = read_unchecked(*file, buffer);
  if (!text) { return tl::unexpected(text.error()); }
  return LockList{parse_lock_lines(*text, ""), false};
}

Result<std::string> command_line(pid_t pid)
{
  auto text = read_file(proc_path(pid, "/cmdline").c_str());
  if (!text) { return tl::unexpected(gone(text.error())); }
  return text;
}

Result<uid_t> user_of(pid_t pid)
{
  const auto text = read_file(proc_path(pid, "/status").c_str());
  if (!text) { return tl::unexpected(gone(text.error())); }
  const auto line = text->find("\nUid:");
  if (line == text->npos) { return tl::unexpected(SysError{"read", EPROTO}); }
  std::string_view users = std::string_view(*text).substr(line + std::strlen("\nUid:"));
  take_word(users); // the real one
  return number_of<uid_t>(take_word(users));
}

Result<std::string> read_file(const char* path)
{
  const auto fd = open(path, O_RDONLY);
  if (!fd) { return tl::unexpected(fd.error()); }
  std::string content;
  for (;;) {
    char piece[4096]; // the kernel gives no more of /proc at a time
    const ssize_t count = ::read(fd->get(), piece, sizeof piece);
    if (count > 0) {
      content.append(piece, static_cast<std::size_t>(count));
    } else if (count == 0) {
      return content;
    } else if (errno != EINTR) {
      return tl::unexpected(SysError{"read", errno});
    }
  }
}

Result<void> check_proc()
{
  char number[16];
  const ssize_t size = again([&] { return ::readlink("/proc/self", number, sizeof number); });
  if (size > 0 && number_of<pid_t>({number, static_cast<std::size_t>(size)}) == ::getpid()) { return {}; }
  return tl::unexpected(SysError{"/proc", EOPNOTSUPP});
}

Result<ProcessStatus> process_status(pid_t pid)
{
  const auto line = read_at_once(proc_path(pid, "/stat"));
  if (!line) { return tl::unexpected(gone(line.error())); }
  return parse_status(*line);
}

Result<SignalSet> pending_signals(pid_t pid)
{
  const auto text = read_at_once(proc_path(pid, "/status"));
  if (!text) { return tl::unexpected(gone(text.error())); }
  constexpr std::string_view k_field = "\nShdPnd:\t";
  const auto begin = text->find(k_field);
  if (begin == text->npos) { return tl::unexpected(SysError{"read", EPROTO}); }
  std::uint64_t bits = 0;
  const char* const digits = text->data() + begin + k_field.size();
  std::from_chars(digits, text->data() + text->size(), bits, 16);
  SignalSet pending;
  for (int number = 1; bits != 0; ++number, bits >>= 1) {
    if ((bits & 1) != 0) { pending.add(number); }
  }
  return pending;
}

std::chrono::nanoseconds started(const ProcessStatus& process)
{
  const auto ticks = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK)); // 100, whatever the kernel is built with
  return std::chrono::milliseconds(process.start * 1000 / ticks);
}

Result<std::vector<pid_t>> process_ids_in(const char* path)
{
  const auto text = read_file(path);
  if (!text) { return tl::unexpected(text.error()); }
  std::vector<pid_t> found;
  std::string_view rest = *text;
  for (std::string_view word = take_word(rest); !word.empty(); word = take_word(rest)) {
    found.push_back(number_of<pid_t>(word));
  }
  return found;
}

Result<std::vector<pid_t>> children()
{
  return process_ids_in("/proc/thread-self/children");
}

Result<std::vector<pid_t>> children_of(pid_t pid)
{
  return process_ids_in(proc_path(pid, "/task/" + std::to_string(pid) + "/children").c_str());
}

std::vector<std::string> entries_of(const char* path, std::string_view prefix)
{
  std::vector<std::string> found;
  (void)for_each_entry(path, [&](const Descriptor&, std::string_view name) {
    if (name.starts_with(prefix)) { found.emplace_back(name); }
    return true;
  });
  return found;
}

Result<std::vector<ProcessStatus>> all_processes()
{
  std::vector<ProcessStatus> all;
  std::optional<SysError> failure;
  const auto visited = for_each_entry("/proc", [&](const Descriptor&, const char* name) {
    const auto pid = number_of<pid_t>(name);
    if (pid <= 0) { return true; }
    auto status = process_status(pid);
    if (status) {
      all.push_back(std::move(*status));
    } else if (status.error().code == EMFILE || status.error().code == ENFILE) {
      failure = status.error(); // it has not ended, we are too poor to look
    }
    return !failure;
  });
  if (!visited) { return tl::unexpected(visited.error()); }
  if (failure) { return tl::unexpected(*failure); }
  return all;
}

} // namespace lockrun::sys
