#include "cli/hints.hpp"

#include "lock/lock_file.hpp"
#include "lock/place.hpp"
#include "sys/file.hpp"
#include "sys/mount.hpp"
#include "sys/proc.hpp"
#include "sys/process.hpp"
#include "text/quote.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <string_view>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace lockrun::cli {
namespace {

constexpr std::string_view k_search_path = "/bin:/usr/bin"; // of execvp(3), without PATH

std::string directory_of(const std::string& path)
{
  const auto slash = path.find_last_not_of('/') == path.npos ? path.npos : path.rfind('/', path.find_last_not_of('/'));
  if (slash == path.npos) { return "."; }
  return slash == 0 ? "/" : path.substr(0, slash);
}

bool exists(const std::string& path)
{
  return sys::stat(path.c_str()).has_value();
}

bool may(const std::string& path, int how)
{
  return sys::access(path.c_str(), how).has_value();
}

bool needs_writing(const LockRequest& request)
{
  return queues(request) || (request.mode == Mode::exclusive && request.api != Api::flock);
}

// How far this user comes on the way to a file.
struct Way {
  std::string before; // the last directory that can be looked at
  std::string at;     // what cannot, or is none
  int code = 0;
};
Way way_to(const std::string& path)
{
  Way way{path.starts_with('/') ? "/" : ".", {}, 0};
  for (auto end = path.find('/', 1); end != path.npos; end = path.find('/', end + 1)) {
    std::string directory = path.substr(0, end);
    const auto status = sys::stat(directory.c_str());
    way.code = !status ? status.error().code : status->type != sys::FileType::directory ? ENOTDIR : 0;
    if (way.code != 0) {
      way.at = std::move(directory);
      return way;
    }
    way.before = std::move(directory);
  }
  if (const auto status = sys::stat(path.c_str()); !status) {
    way.code = status.error().code;
    way.at = path;
  }
  return way;
}

// What keeps this user from finding the file; empty if it is no lack of permission.
std::string hint_for_closed_directory(const std::string& path)
{
  const Way way = way_to(path);
  if (way.code != EACCES) { return {}; }
  if (sys::lstat(way.at.c_str())) {
    return fmt::format("this user may not follow the symbolic link {}", text::quoted(way.at));
  }
  return fmt::format("this user may not search the directory {}; see 'ls -ld'", text::quoted(way.before));
}

std::string hint_for_refused_file(const std::string& path, const sys::FileStatus& file, const LockRequest& request)
{
  if (file.type == sys::FileType::device) { return {}; } // a driver or a mount with 'nodev' may be the reason, too
  if (!may(path, W_OK) && queues(request)) {
    return "--fair, --slots and --max-waiters need a file that this user may write to";
  }
  if (!may(path, W_OK) && needs_writing(request)) {
    return "an exclusive --api ofd or both needs a file that this user may write to";
  }
  return may(path, R_OK) ? "" : "this user may not read it; see 'ls -l'";
}

std::string hint_for_permission(const std::string& path, const LockRequest& request)
{
  const auto file = sys::stat(path.c_str());
  if (file) { return hint_for_refused_file(path, *file, request); }
  if (file.error().code == EACCES) { return hint_for_closed_directory(path); }
  const std::string directory = directory_of(path);
  const bool is_link = sys::lstat(path.c_str()).has_value();
  if (file.error().code != ENOENT || is_link || may(directory, W_OK)) { return {}; }
  return fmt::format("this user may not create files in {}", text::quoted(directory));
}

std::string hint_for_missing(const std::string& path, const LockRequest& request)
{
  const Way way = way_to(path);
  const bool is_on_the_way = path.find_first_not_of('/', way.at.size()) != path.npos;
  if (way.code == ENOENT && is_on_the_way) {
    if (sys::lstat(way.at.c_str())) { return fmt::format("the symbolic link {} leads nowhere", text::quoted(way.at)); }
    return fmt::format("the directory {} does not exist; lockrun creates files, not directories", text::quoted(way.at));
  }
  if (!request.file.create) { return "with --no-create the file must exist"; }
  if (path.ends_with('/')) { return "lockrun creates files, not directories"; }
  if (sys::lstat(path.c_str())) { return "it is a symbolic link into a directory that does not exist"; }
  return {};
}

std::string hint_for_long_name(const std::string& path)
{
  if (path.size() >= PATH_MAX) { return fmt::format("the kernel takes paths of at most {} bytes", PATH_MAX - 1); }
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    if (end - begin > NAME_MAX) { return fmt::format("most file systems take names of at most {} bytes", NAME_MAX); }
    begin = end + 1;
  }
  return {};
}

bool is_on_nfs(const std::string& path)
{
  constexpr std::uint32_t k_nfs = 0x6969; // <linux/magic.h>
  const auto named = sys::open(path.c_str(), O_PATH);
  return named && sys::file_system_type(*named).value_or(0U) == k_nfs;
}

// --- The command ----------------------------------------------------------------------------------------------------

bool is_mounted_noexec(const std::string& path)
{
  const auto named = sys::open(path.c_str(), O_PATH);
  if (!named) { return false; }
  const auto mount = sys::mount_of(*named);
  return mount && ("," + mount->options + ",").find(",noexec,") != std::string::npos;
}

// What "#!" in the first line names, as the kernel reads it: up to a blank, a carriage return included.
std::string interpreter_in(std::string_view head)
{
  if (!head.starts_with("#!")) { return {}; }
  head = head.substr(2, head.find('\n') - 2);
  head.remove_prefix(std::min(head.find_first_not_of(" \t"), head.size()));
  return std::string(head.substr(0, head.find_first_of(" \t")));
}

std::string hint_for_interpreter(const std::string& script, const std::string& interpreter)
{
  if (interpreter.ends_with('\r') && exists(interpreter.substr(0, interpreter.size() - 1))) {
    return fmt::format("the first line of {} ends with a carriage return, which the kernel takes for a part of the "
                       "interpreter's name, {}",
      text::quoted(script), text::quoted(interpreter));
  }
  return fmt::format(
    "{}, the interpreter in the first line of {}, does not exist", text::quoted(interpreter), text::quoted(script));
}

// elf(5): the processor is in bytes 18 and 19, in its own order.
std::string hint_for_format(const std::string& path, const std::string& head)
{
  constexpr std::size_t k_begin = 18;
  constexpr std::size_t k_end = 20;
  const auto ours = sys::beginning_of("/proc/self/exe", k_end);
  if (!ours || ours->size() < k_end || head.size() < k_end) { return {}; }
  if (head.compare(k_begin, k_end - k_begin, *ours, k_begin) == 0) { return {}; }
  return fmt::format("{} was built for another processor", text::quoted(path));
}

std::string hint_for_program(const std::string& path, int code, int scripts = 0)
{
  constexpr int k_most_scripts = 4; // that are each other's interpreters: more the kernel does not try
  constexpr std::size_t k_read_by_kernel = 256;
  const auto file = sys::stat(path.c_str());
  if (!file) { return hint_for_closed_directory(path); }
  if (file->type == sys::FileType::directory) { return fmt::format("{} is a directory", text::quoted(path)); }
  if (file->type != sys::FileType::regular || scripts > k_most_scripts) { return {}; }
  if (code == EACCES) {
    if (is_mounted_noexec(path)) {
      return fmt::format("{} is on a file system that is mounted 'noexec'", text::quoted(path));
    }
    if ((file->permissions & 0111U) == 0) {
      return fmt::format("{} is not executable; see 'chmod +x'", text::quoted(path));
    }
    if (!may(path, X_OK)) { return fmt::format("this user may not execute {}; see 'ls -l'", text::quoted(path)); }
  }
  const std::string head = sys::beginning_of(path.c_str(), k_read_by_kernel).value_or(std::string());
  if (code == ENOENT && head.starts_with("\177ELF")) {
    return fmt::format("the dynamic loader that {} was built for does not exist here", text::quoted(path));
  }
  if (code == ENOEXEC) { return hint_for_format(path, head); }
  const std::string interpreter = interpreter_in(head);
  if (interpreter.empty()) { return {}; }
  if (code == ENOENT && !exists(interpreter)) { return hint_for_interpreter(path, interpreter); }
  return hint_for_program(interpreter, code, scripts + 1);
}

// Calls `look` with each file that PATH may mean by `name`, until it returns something.
template <class Look>
std::string search(const std::string& name, Look look)
{
  const char* const variable = sys::environment("PATH");
  std::string_view rest = variable != nullptr ? variable : k_search_path;
  for (;;) {
    const std::string_view directory = rest.substr(0, rest.find(':'));
    if (auto found = look(directory.empty() ? "./" + name : std::string(directory) + "/" + name); !found.empty()) {
      return found;
    }
    if (directory.size() == rest.size()) { return {}; }
    rest.remove_prefix(directory.size() + 1);
  }
}

} // namespace

std::string hint_for_open(const Error& error, const LockRequest& request)
{
  const bool is_named = is_name(error.target);
  const std::string path = is_named ? path_of_name(error.target).value_or(std::string()) : error.target;
  switch (error.cause.code) {
  case ENOENT:
    return hint_for_missing(path, request);
  case ENOTDIR: {
    const Way way = way_to(path);
    return way.code == ENOTDIR && way.at != path ? fmt::format("{} is not a directory", text::quoted(way.at)) : "";
  }
  case EACCES:
    return hint_for_permission(path, request);
  case EPERM:
    if (error.cause.call != nullptr && std::string_view(error.cause.call) == "fchmod") {
      return "its file system does not keep the permissions that --mode asks for";
    }
    return {};
  case EROFS:
    return "the file system is read-only; use a file on another one";
  case ENAMETOOLONG:
    return hint_for_long_name(path);
  case ELOOP:
    if (request.file.follow || !sys::lstat(path.c_str())) { return {}; }
    return "it is a symbolic link, and --no-follow was given";
  case EMFILE:
    return "the limit on open files is too low; see 'ulimit -n'";
  case EAGAIN:
    return "another program, often a file server, has a lease on it; without -n lockrun waits for that";
  case ETXTBSY:
    return "it is being executed, and this kind of lock needs it open for writing; use another file as the lock";
  default:
    return {};
  }
}

std::string hint_for_lock(const Error& error, const LockRequest& request)
{
  switch (error.cause.code) {
  case ENOLCK:
    if (request.fd || !is_on_nfs(error.target)) { return {}; }
    return "an NFS server may not offer locking; use a file on a local file system";
  case EOPNOTSUPP:
    if (queues(request) && std::string_view(error.cause.call) == "fstatfs") { // see lock/take.cpp
      return "on this file system flock(2) and fcntl(2) locks see each other; --fair, --slots and --max-waiters need a "
             "local one";
    }
    [[fallthrough]];
  case ENOSYS:
  case EINVAL:
    return "this file system cannot lock; use a file on a local one";
  case EBADF:
    return "this file system wants a file that is open for writing, and this one is not";
  default:
    return {};
  }
}

std::string hint_for_descriptor(const Error& error, const LockRequest& request)
{
  if (error.cause.code != EBADF) { return {}; }
  const int number = *request.fd;
  const std::string_view call = error.cause.call != nullptr ? error.cause.call : "";
  const bool is_open = call == "flock" || call.starts_with("fcntl(F_OFD");
  if (!is_open) { return fmt::format("open it in the shell first, as in: exec {}>/tmp/app.lock", number); }
  if (request.api != Api::flock) {
    return "an ofd lock needs a descriptor that is open for writing, a shared one for reading";
  }
  return fmt::format("it is open, but not in the way that this lock needs; open it for reading and writing, as in: "
                     "exec {}<>/tmp/app.lock",
    number);
}

std::string hint_for_command(const Error& error)
{
  const std::string& name = error.target;
  const int code = error.cause.code;
  if (code == ETXTBSY) { return "a process has it open for writing"; }
  if (code == EAGAIN) { return "this user has as many processes as the limit allows; see 'ulimit -u'"; }
  if (code != ENOENT && code != EACCES && code != ENOEXEC) { return {}; }
  if (name.find('/') != name.npos) { return hint_for_program(name, code); }
  auto hint = search(name, [&](const std::string& path) { return exists(path) ? hint_for_program(path, code) : ""; });
  if (!hint.empty() || code != EACCES) { return hint; }
  return search(name, [](const std::string& path) { return hint_for_closed_directory(path); });
}

std::string hint_for_number(const LockRequest& request)
{
  const std::string& path = request.path;
  constexpr int k_above_standard = 3;
  constexpr std::size_t k_digits = 9; // descriptors are no larger
  if (path.empty() || path.size() > k_digits || path.find_first_not_of("0123456789") != path.npos) { return {}; }
  int number = 0;
  (void)std::from_chars(path.data(), path.data() + path.size(), number);
  // Only looked at: to close a copy of it would drop a POSIX lock of this process.
  if (number < k_above_standard || !sys::descriptor_status(sys::process_id(), number)) { return {}; }
  return fmt::format("'{0}' is the file './{0}' here; for the open descriptor {0} use '--fd {0}'", path);
}

} // namespace lockrun::cli
