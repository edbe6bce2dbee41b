#include "engines/etcd/requests.hpp"

#include <utility>

namespace lockrun::engines::etcd {
namespace {

// The first key after all that begin with `prefix`.
std::string end_of(std::string prefix)
{
  ++prefix.back(); // it is a slash
  return prefix;
}

Json put_note(const std::string& key, const Note& note, std::int64_t lease)
{
  Json put = put_key(key, write_note(note));
  put["request_put"]["lease"] = std::to_string(lease);
  return put;
}

Json with_condition(Json range, const char* target, const char* result, const char* name, std::int64_t revision)
{
  range["target"] = target;
  range["result"] = result;
  range[name] = std::to_string(revision);
  return range;
}

// The key, with the first slot if nobody is there.
Json put_with_first_slot(const NewKey& fresh)
{
  Note first = fresh.note;
  first.slot = 0;
  const Json is_empty = with_condition(range_below(fresh.prefix), "MOD", "LESS", "mod_revision", 1);
  return {{"request_txn", transaction(is_empty, Json::array({put_note(fresh.key, first, fresh.lease)}),
                            Json::array({put_note(fresh.key, fresh.note, fresh.lease)}))}};
}

} // namespace

Json grant_request(std::int64_t lease, milliseconds ttl)
{
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(ttl);
  return {{"TTL", std::to_string(seconds.count())}, {"ID", std::to_string(lease)}};
}

Json lease_request(std::int64_t lease)
{
  return {{"ID", std::to_string(lease)}};
}

milliseconds ttl_in(const Json& answer)
{
  return std::chrono::seconds(number(answer, "TTL"));
}

Json range_of_key(const std::string& key)
{
  return {{"key", encode_base64(key)}};
}

Json range_below(const std::string& prefix, std::optional<std::int64_t> newest)
{
  Json range = {{"key", encode_base64(prefix)}, {"range_end", encode_base64(end_of(prefix))}};
  if (newest) { range["max_create_revision"] = std::to_string(*newest); }
  return range;
}

const Json& found_last(const Json& answer)
{
  const Json& responses = field(answer, "responses");
  return field(responses.is_array() && !responses.empty() ? responses.back() : responses, "response_range");
}

Json transaction(const Json& condition, const Json& deeds, const Json& otherwise)
{
  return {{"compare", Json::array({condition})}, {"success", deeds}, {"failure", otherwise}};
}

Json is_unmodified(const std::string& key, std::int64_t modified)
{
  return with_condition(range_of_key(key), "MOD", "EQUAL", "mod_revision", modified);
}

Json put_key(const std::string& key, const std::string& value)
{
  return {{"request_put", {{"key", encode_base64(key)}, {"value", encode_base64(value)}}}};
}

Json look_at(const Json& range)
{
  return {{"request_range", range}};
}

Json make_request(const NewKey& fresh)
{
  const Json condition =
    fresh.unchanged_since
      ? with_condition(range_below(fresh.prefix), "CREATE", "LESS", "create_revision", *fresh.unchanged_since + 1)
      : with_condition(range_of_key(fresh.key), "CREATE", "EQUAL", "create_revision", 0);
  Json deeds = Json::array();
  for (const std::string& former : fresh.former) { deeds.push_back({{"request_delete_range", range_of_key(former)}}); }
  const bool may_choose = fresh.note.slots > 0 && !fresh.note.slot;
  deeds.push_back(may_choose ? put_with_first_slot(fresh) : put_note(fresh.key, fresh.note, fresh.lease));
  const Json queue = look_at(range_below(fresh.prefix));
  deeds.push_back(queue);
  return transaction(condition, deeds, Json::array({queue}));
}

Json rewrite_request(const std::string& key, const Note& note, std::int64_t lease, std::int64_t modified)
{
  return transaction(
    is_unmodified(key, modified), Json::array({put_note(key, note, lease)}), Json::array({look_at(range_of_key(key))}));
}

Json presence_request(const std::vector<std::string>& keys)
{
  Json looks = Json::array();
  for (const std::string& key : keys) {
    Json range = range_of_key(key);
    range["count_only"] = true;
    range["serializable"] = true;
    looks.push_back(look_at(range));
  }
  return {{"success", looks}};
}

bool is_present(const Json& answer, std::size_t index)
{
  const Json& responses = field(answer, "responses");
  if (!responses.is_array() || responses.size() <= index) { return false; }
  return count(field(responses[index], "response_range"), "count") > 0;
}

Json watch_key(const std::string& key, std::int64_t since, bool takes_writes)
{
  Json request = range_of_key(key);
  request["start_revision"] = std::to_string(since);
  if (!takes_writes) { request["filters"] = Json::array({"NOPUT"}); }
  return {{"create_request", request}};
}

Json watch_below(const std::string& prefix, std::int64_t since)
{
  Json watch = watch_key(prefix, since, false);
  watch["create_request"]["range_end"] = range_below(prefix)["range_end"];
  return watch;
}

} // namespace lockrun::engines::etcd
