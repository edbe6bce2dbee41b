#pragma once

#include "engines/attention.hpp"
#include "engines/url.hpp"

#include <lockrun/request.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <poll.h>

// What a session asks of a backend, which knows one kind of server: the seam between what all engine programs do and
// what one of them does.
namespace lockrun::engines {

// Who wants the lock, for the eyes of others.
struct Owner {
  std::string host;
  std::int64_t pid = 0;
  std::string user;
  std::string command;
  std::int64_t since_ms = 0; // on the wall clock, since 1970
  std::string instance{};    // which process of all times it is, for other lockruns; empty: it did not say
  friend bool operator==(const Owner&, const Owner&) = default;
};
std::string words_of(const Owner& owner); // "PID 7 (make, user ann) on web1"

// What lockrun asks for.
struct Demand {
  Mode mode = Mode::exclusive;
  int slots = 0; // 0: no slots
  Wait wait = Wait::allowed;
  std::optional<milliseconds> patience; // how long to wait; none: for ever
  std::optional<int> max_waiters;
  milliseconds ttl{0};
  Owner owner;
};

// One who has the lock or waits for it.
struct Contender {
  Mode mode = Mode::exclusive;
  bool waits = false;
  std::int64_t position = 0; // of one who waits, from 1
  std::string token{};       // as in Ownership
  std::optional<int> slot{};
  std::optional<Owner> owner{}; // none: it left no name
  std::string text{};           // who it is, in words
};

// Up to when something is sure, and when it needs the backend again.
struct Pace {
  Instant sure_until{0}; // the lock, or our place as long as we wait, is ours up to then
  Instant next{0};       // when proceed() is to be called, whatever happens until then
};

// Where we stand.
struct Standing {
  bool is_held = false;
  std::int64_t position = 0;         // among those who wait, from 1; 0: unknown
  std::optional<Contender> holder{}; // one who is in the way
  std::vector<Contender>
    nearby{}; // others who hold it, on the host of the one who asks: he may descend from one of them
  Pace pace{};
};

// Why there is no lock.
struct Failure {
  int status = 0;     // sysexits.h
  std::string reason; // a word of lockrun-engine(7)
  std::string text;
  std::string holder{};
  std::string hint{};
  std::optional<Standing> standing{}; // what we would have to wait for
  Instant sure_until{0};              // the last moment at which what is lost was ours for certain
};
template <class T>
using Outcome = tl::expected<T, Failure>;

// Reasons that are never sent.
inline constexpr const char* k_interrupted = "interrupted"; // lockrun has something to say
inline constexpr const char* k_lost = "lost";               // the lock, or our place; the text says why

Failure usage(std::string text, std::string hint = {});
Failure interruption();
Failure loss(std::string text, Instant sure_until = Instant(0));

// What lockrun is told with HELD.
struct Ownership {
  std::string token; // greater for every later holder: a number, or what the engine's manual says how to compare
  std::string key;
  std::optional<int> slot;
  milliseconds ttl{0};
  std::string epoch{}; // what the server is, and its history; tokens of different epochs cannot be compared
};

// One kind of server. How it keeps a lock is its own business: the session calls join() once and proceed() as often as
// the pace or a descriptor demands, until it is told to leave. Calls talk to the server and may take long; all but
// leave() return `interrupted` as soon as lockrun says something, and are then called again. None of them throws.
class Backend {
public:
  virtual ~Backend() = default;

  virtual const char* name() const = 0;
  virtual const char* abilities() const = 0; // for ENGINE can=…
  virtual const char* default_port() const = 0;
  virtual UrlForm url_form() const { return UrlForm::path; }
  virtual std::span<const char* const> parameters() const = 0; // of its URLs, besides `ttl` and `publish`

  // Takes what the URL says; talks to no server yet. The URL names a lock, and has no other parameters.
  virtual Result<void, Failure> open(const Url& url) = 0;

  // All who hold it or wait for it, those who wait in their order.
  virtual Result<std::vector<Contender>, Failure> status() = 0;

  // Queues, or gets the lock. May be called again after it was interrupted or after what it got was lost. One that is
  // held, and whose time for proceed() has not come, needs no second look before the command starts.
  virtual Result<Standing, Failure> join(const Demand& demand, Instant until) = 0;

  // What may bring news, and which of it to wait for (poll(2)).
  virtual std::vector<::pollfd> interests() const = 0;

  // One of these is ready, or the time has come: takes what has arrived, does what is due and says where we stand now.
  // What has changed hands meanwhile is held only once that has been verified and renewed. A failure with the reason
  // `lost` is definite and has a `sure_until`; any other leaves everything open, and what was due is due until it
  // succeeds.
  virtual Result<Standing, Failure> proceed() = 0;

  // What we hold.
  virtual Ownership ownership() const = 0;

  // Gives back the lock or the place in the queue. The text says what was left behind, if anything.
  virtual std::optional<std::string> leave() = 0;
};

} // namespace lockrun::engines
