#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace lockrun {

enum class Mode { exclusive, shared };

// Whether one attempt may block.
enum class Wait { never, allowed };

// Which of the kernel's locks: flock(2), the open file description locks of fcntl(2), or the one and then the other.
enum class Api { flock, ofd, both };

// The bytes of the file that an ofd lock covers. The default is the range that every lockrun means by "the lock"; what
// lies above it belongs to queues and slots, for ever, because different versions meet in one file.
struct Range {
  std::int64_t start = 0;
  std::int64_t length = std::int64_t{1} << 62;
  friend bool operator==(const Range&, const Range&) = default;
};

// How the lock file may be found and made.
struct FileRules {
  std::optional<mode_t> mode; // permissions on creation, umask not applied; otherwise 0666 less umask
  bool create = true;         // a missing file is made
  bool follow = true;         // the last component may be a symbolic link
  bool unlink = false;        // remove the file at release, when that is safe
};

// What to do when the lock is busy because an ancestor of this process holds it, which usually waits for us.
enum class Nested {
  fail, // Reason::nested
  run,  // succeed under the ancestor's lock
  wait, // wait all the same
};

// A lock that is to be had together with others.
struct FurtherLock {
  std::string path; // a file, a directory, or name:NAME
  Mode mode = Mode::exclusive;
};

// What to lock, and how. Checked where it is made; everybody behind trusts it.
struct LockRequest {
  std::string path;      // a file, a directory, a device, or name:NAME; ignored when fd is given
  std::optional<int> fd; // a descriptor of the caller's, which stays open
  Mode mode = Mode::exclusive;
  Api api = Api::flock;
  Range range;
  std::optional<std::chrono::nanoseconds> patience; // none: wait for ever; zero: do not wait
  bool fair = false;                                // strictly first come first served among all who say so
  int slots = 0;                  // 1 to 256: so many may hold it at once, in order as with `fair`; 0: no slots
  std::optional<int> max_waiters; // do not wait when so many wait already, of those who say so
  std::vector<FurtherLock> also; // with `path`, all or none; everything else here is said of these, too. Not with slots
  FileRules file;
  Nested nested = Nested::fail;
};

} // namespace lockrun
