#include "engines/etcd/history.hpp"

#include "engines/etcd/requests.hpp"

#include <random>

#include <fmt/format.h>

namespace lockrun::engines::etcd {

LogPosition log_position_of(const Json& status_answer)
{
  return {count(field(status_answer, "header"), "revision"), count(status_answer, "raftIndex")};
}

Marker marker_of(const Json& range_response)
{
  Marker marker;
  for (const Json& kv : field(range_response, "kvs")) {
    marker.modified = count(kv, "mod_revision");
    const Json value = parse_json(bytes(kv, "value")).value_or(Json());
    marker.epoch = text(value, "epoch");
    marker.index = count(value, "index");
  }
  return marker;
}

Json marker_request()
{
  Json request = range_of_key(k_epoch_key);
  request["serializable"] = true;
  return request;
}

Json marker_change(const Marker& marker, const Marker& replaced)
{
  const Json value = {{"epoch", marker.epoch}, {"index", marker.index}};
  return transaction(is_unmodified(k_epoch_key, replaced.modified),
    Json::array({put_key(k_epoch_key, write_json(value))}), Json::array({look_at(range_of_key(k_epoch_key))}));
}

Marker new_marker(const LogPosition& now)
{
  std::random_device device;
  return {fmt::format("{:08x}{:08x}", device(), device()), now.index, 0};
}

bool is_continued(const Marker& marker, const LogPosition& now)
{
  if (now.index == 0 || now.revision < marker.modified) { return true; }
  return now.index - marker.index > now.revision - marker.modified;
}

} // namespace lockrun::engines::etcd
