#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

// JSON as etcd's gateway writes it: numbers of 64 bits as strings, bytes in base64, zeros and empty fields left out.
namespace lockrun::engines::etcd {

using Json = nlohmann::json;

std::string encode_base64(std::string_view bytes);
std::optional<std::string> decode_base64(std::string_view text);

// The field; null if it is not there, or `object` is no object.
const Json& field(const Json& object, const char* key);

// 0 and empty when it is not there, as the gateway means it.
std::int64_t number(const Json& object, const char* key);
std::int64_t count(const Json& object, const char* key); // revisions and the like: no less than 0, far from the largest
std::string text(const Json& object, const char* key);
std::string bytes(const Json& object, const char* key); // decoded

// None: it is no JSON.
std::optional<Json> parse_json(std::string_view text);

// In one line; bytes that are no UTF-8 are replaced.
std::string write_json(const Json& value);

} // namespace lockrun::engines::etcd
