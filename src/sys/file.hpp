#pragma once

#include "sys/descriptor.hpp"

#include <lockrun/error.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <sys/types.h>

namespace lockrun::sys {

enum class FileType { regular, directory, device, other };

// What is behind a name: the same device and inode are the same file.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

struct FileStatus {
  FileIdentity identity;
  FileType type = FileType::other;
  mode_t permissions = 0;
  uid_t owner = 0;
  nlink_t links = 0;
  std::int64_t size = 0;
  dev_t special = 0; // which device, if it is one
  bool is_character_device = false;
};

// open(2). `flags` always get O_CLOEXEC and O_NOCTTY. May block without O_NONBLOCK (a lease, a FIFO); then a caller
// that is interrupted again and again gets the error EINTR.
Result<Descriptor> open(const char* path, int flags, mode_t mode = 0);

// fstat(2), stat(2), and lstat(2), which does not follow a symbolic link.
Result<FileStatus> fstat(const Descriptor& fd);
Result<FileStatus> stat(const char* path);
Result<FileStatus> lstat(const char* path);

// Whether this user may do with the file what `how` says: R_OK, W_OK, X_OK (faccessat(2), AT_EACCESS).
Result<void> access(const char* path, int how);

// The first bytes of a regular file.
Result<std::string> beginning_of(const char* path, std::size_t bytes);

// What kind of file system `fd` is on: the number that <linux/magic.h> has for it (fstatfs(2), f_type).
Result<std::uint32_t> file_system_type(const Descriptor& fd);

// unlink(2).
Result<void> unlink(const char* path);

// Gives `fd`, which was opened with O_TMPFILE, a name (linkat(2)). EEXIST: the name is taken, if only by a symbolic
// link. Needs /proc.
Result<void> link(const Descriptor& fd, const char* path);

// fchmod(2), also for a descriptor that was opened with O_PATH; that needs /proc.
Result<void> change_mode(const Descriptor& fd, mode_t mode);

// Where the symbolic link leads that `fd` was opened for (readlinkat(2), O_PATH | O_NOFOLLOW).
Result<std::string> link_target(const Descriptor& fd);

// The class of a character device, as "watchdog" or "tty" (sysfs, /sys/dev/char/MAJOR:MINOR/subsystem).
Result<std::string> device_class(dev_t device);

// mkdir(2).
Result<void> mkdir(const char* path, mode_t mode);

// rmdir(2).
Result<void> rmdir(const char* path);

// A copy of descriptor `fd`, which may be somebody else's, at `lowest` or above, close-on-exec (F_DUPFD_CLOEXEC).
// EBADF: it is not open; EINVAL: above the limit; EMFILE: none free.
Result<Descriptor> duplicate(int fd, int lowest);

// Lets the program that is executed next inherit `fd` (F_SETFD).
Result<void> let_inherit(const Descriptor& fd);

// Moves the file offset, which everybody who shares the descriptor shares too (lseek(2)).
Result<void> seek(const Descriptor& fd, std::int64_t offset);

// What writes to a pipe that nobody reads fails with EPIPE, and to a file that may not grow (RLIMIT_FSIZE) with EFBIG.
// The SIGPIPE or SIGXFSZ that comes with it is taken back if it is blocked: it would end us, or the command that we
// become, once it is not.

// One write(2); returns how many bytes went out.
Result<std::size_t> write(const Descriptor& fd, std::string_view bytes);

// One write(2) of all of `text`, unless `fd` takes nothing within `patience` (a full pipe, a stopped terminal): EAGAIN.
// `text` has at most PIPE_BUF bytes, otherwise it may block for longer (pipe(7)). Returns how many bytes went out.
Result<std::size_t> offer(const Descriptor& fd, std::string_view text, std::chrono::milliseconds patience);

// Writes all of `text` to standard error or standard output, as far as that is possible. Blocks while a pipe is full.
Result<void> write_standard_error(std::string_view text);
Result<void> write_standard_output(std::string_view text);

// The same for a caller that must not block for ever: EAGAIN, and the rest is not written, when standard error takes
// nothing for `patience` (a full pipe, a stopped terminal). What has at most PIPE_BUF bytes goes out whole or not at
// all (pipe(7)).
Result<void> offer_standard_error(
  std::string_view text, std::chrono::milliseconds patience = std::chrono::milliseconds(0));

// Standard descriptors (0 to 2) that are closed, bit i for descriptor i. One call (poll(2), POLLNVAL). EMFILE: the
// limit on open files is below three, so that no other one can be opened.
Result<unsigned> closed_standard_descriptors();

} // namespace lockrun::sys
