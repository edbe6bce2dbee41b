#pragma once

#include "engines/backend.hpp"
#include "protocol/protocol.hpp"

#include <string>

// What a session hears and says, in messages of the protocol: lockrun-engine(7).
namespace lockrun::engines {

// What ACQUIRE asks for, with the TTL that it leaves to us.
Result<Demand, Failure> demand_in(const protocol::Message& acquire);

// A moment as messages have it.
std::int64_t in_milliseconds(Instant moment);

// WAITING, once for each of those who are in the way.
std::string waiting_lines(const Standing& standing);

protocol::Message held_message(const Ownership& owned, Instant deadline); // HELD
protocol::Message contender_message(const Contender& contender);          // HOLDER or WAITER
protocol::Message fail_message(const Failure& failure);                   // FAIL

} // namespace lockrun::engines
