#pragma once

#include "support/process.hpp"

#include <lockrun/request.hpp>

#include <filesystem>

namespace lockrun::testing {

// Whose lock: of the open file description (flock, ofd) or of the process (posix).
enum class LockKind { flock, ofd, posix };
const char* name_of(LockKind kind);

// Holds a lock on a file, which is made if it is missing, with the kernel's own calls; from the test process, until
// release() or the end. Throws if it cannot have it at once. A posix lock excludes other processes only.
class HeldLock {
public:
  explicit HeldLock(const std::filesystem::path& path, Mode mode = Mode::exclusive, LockKind kind = LockKind::flock,
    const Range& range = {});
  ~HeldLock();
  HeldLock(const HeldLock&) = delete;
  HeldLock& operator=(const HeldLock&) = delete;
  void release() noexcept; // for all that inherited it, too
  int fd() const noexcept { return m_fd; }

private:
  int m_fd = -1;
};

// The same in a process of its own, which has nothing else open. Holds the lock once it is constructed.
class HoldingProcess {
public:
  explicit HoldingProcess(const std::filesystem::path& path, Mode mode = Mode::exclusive,
    LockKind kind = LockKind::flock, const Range& range = {});
  pid_t pid() const noexcept { return m_process.pid(); }
  void release(); // the process ends by itself
  void kill();    // with SIGKILL

private:
  Notice m_end; // not an end of file: forks of the test may have the pipe open
  Notice m_held;
  Forked m_process;
};

// Whether nobody holds a lock on `path` that conflicts: by trying.
bool is_free(const std::filesystem::path& path, Mode mode = Mode::exclusive, LockKind kind = LockKind::flock,
  const Range& range = {});

} // namespace lockrun::testing
