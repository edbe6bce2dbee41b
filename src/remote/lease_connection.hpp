#pragma once

#include "sys/descriptor.hpp"

#include <chrono>

namespace lockrun::remote {

// The connection to what holds a lock for us while the command runs, and can lose it: an engine (remote/engine.hpp).
class LeaseConnection {
public:
  struct News {
    enum class Kind { none, other, renewed, lost };
    Kind kind = Kind::none;
    std::chrono::nanoseconds deadline{}; // renewed, lost: until when it is certainly ours, or was
  };

  virtual ~LeaseConnection() = default;
  // Readable when there is news; not open any more when none can come.
  virtual const sys::Descriptor& source() const = 0;
  // What has happened; none: nothing more for now. A loss has been reported to people when it is returned.
  virtual News news() = 0;
  // Reports that the lease was not renewed in time, and that the tree is being ended. In the guard or in the twin.
  virtual void ran_out() = 0;
  // The lock is lost and its tree cannot be ended: it must not be released.
  virtual void abandon() = 0;
  // In the twin, when the guard is gone and the tree has ended: the lock is given back.
  virtual void release_unheard() = 0;
};

} // namespace lockrun::remote
