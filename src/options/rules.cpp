#include "options/rules.hpp"

namespace lockrun::cli {
namespace {

using Id = OptionId;
constexpr OptionSet k_nothing{};

// clang-format off
constexpr Rule k_rules[] = {
  {Subject::any, {Id::no_fork}, {Id::hold, Id::close, Id::max_hold, Id::unlink},
   "lockrun becomes the command and frees nothing"},
  {Subject::any, {Id::slots}, {Id::also, Id::also_shared},
   "slots are of one lock"},
  {Subject::any, {Id::max_waiters}, {Id::also, Id::also_shared},
   "those are counted who wait for one lock"},
  {Subject::any, {Id::unlink}, {Id::fair, Id::slots, Id::max_waiters},
   "who queues does so in the file"},
  {Subject::any, {Id::unlink}, {Id::start, Id::length},
   "others may hold the rest of the file"},
  {Subject::any, {Id::status}, {Id::probe},
   "it only looks"},
  {Subject::any, {Id::status, Id::probe},
   {Id::command, Id::shell, Id::no_fork, Id::hold, Id::close, Id::max_hold, Id::unlink, Id::unlock, Id::fd, Id::also,
    Id::also_shared},
   "it only looks"},

  {Subject::engine, {Id::no_fork}, k_nothing,
   "lockrun must stay to keep such a lock"},
  {Subject::engine, {Id::also, Id::also_shared}, k_nothing,
   "such a lock is taken by itself"},
  {Subject::engine, {Id::mode, Id::no_create, Id::no_follow, Id::unlink}, k_nothing,
   "there is no lock file"},
  {Subject::engine, {Id::api, Id::fcntl, Id::start, Id::length}, k_nothing,
   "it is no lock of this machine's kernel"},

  {Subject::bare_descriptor, {Id::max_hold}, k_nothing,
   "there is no command to be ended"},
  {Subject::bare_descriptor, {Id::no_fork}, k_nothing,
   "there is no command to become"},

  {Subject::descriptor, {Id::hold, Id::close}, k_nothing,
   "who opened a descriptor decides how long it lives"},
  {Subject::descriptor, {Id::mode, Id::no_create, Id::no_follow, Id::unlink}, k_nothing,
   "a descriptor is open already"},
  {Subject::descriptor, {Id::also, Id::also_shared}, k_nothing,
   "a descriptor is locked by itself"},
  {Subject::descriptor, {Id::fair, Id::slots}, k_nothing,
   "only a file that lockrun opens has a queue"},
};
// clang-format on

} // namespace

std::span<const Rule> rules()
{
  return k_rules;
}

} // namespace lockrun::cli
