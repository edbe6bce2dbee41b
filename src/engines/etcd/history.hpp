#pragma once

#include "engines/etcd/json.hpp"

#include <cstdint>
#include <optional>
#include <string>

// Which history of a cluster its revisions belong to. A cluster that was emptied, or restored from a backup, counts
// again from an earlier revision, and neither its identifier nor its term need tell: they come from its configuration.
// So a key keeps a random epoch, and with it the index of the Raft log at that time. A backup has the key and its
// revisions, but not the log, which begins again; and each revision takes at least one entry of the log. Where there
// are fewer entries than revisions, the key is that of an earlier history.
namespace lockrun::engines::etcd {

// Not below any lock: those are NAME/<lease>.
inline constexpr const char* k_epoch_key = "lockrun-epoch";

// What a server says of itself, in one answer of /v3/maintenance/status.
struct LogPosition {
  std::int64_t revision = 0; // not of a later moment than the index
  std::int64_t index = 0;    // of the Raft log; 0: unknown
};
LogPosition log_position_of(const Json& status_answer);

struct Marker {
  std::string epoch;         // empty: the key is not there, or not ours
  std::int64_t index = 0;    // of the log before the key was written
  std::int64_t modified = 0; // the revision of that; 0: there is no key
};
Marker marker_of(const Json& range_response);
Json marker_request();                                            // a range
Json marker_change(const Marker& marker, const Marker& replaced); // a transaction; range the key if it has changed
Marker new_marker(const LogPosition& now);

// Whether a server that has come so far can be of the history in which the marker was written. One that is behind may.
bool is_continued(const Marker& marker, const LogPosition& now);

} // namespace lockrun::engines::etcd
