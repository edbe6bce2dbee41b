#pragma once

#include "engines/url.hpp"
#include "protocol/protocol.hpp"
#include "sys/poller.hpp"

#include <lockrun/request.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <poll.h>
#include <tl/expected.hpp>

// What the engine programs have in common: they talk to lockrun, keep time, renew, and ask one kind of server through a
// Backend.
namespace lockrun::engines {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// A moment of the elapsed clock (CLOCK_BOOTTIME), which no administrator can set and no suspension stops.
using Instant = nanoseconds;

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

// What lockrun asks for.
struct Demand {
  Mode mode = Mode::exclusive;
  int slots = 0; // 0: no slots
  Wait wait = Wait::allowed;
  std::optional<milliseconds> patience; // how long to wait; none: for ever
  std::optional<int> max_waiters;
  milliseconds ttl{0}; // 0: the backend's own
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

  // Takes what the URL says; talks to nobody yet.
  virtual Result<void, Failure> open(const Url& url) = 0;

  // Holders first, then those who wait, in their order.
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

// What a backend waits with: for descriptors of its own and, unless it lets go, for lockrun.
class Attention {
public:
  // `lockrun` is the descriptor on which it talks.
  static Result<Attention> create(int lockrun = 0);
  int lockrun() const noexcept { return m_lockrun; }

  enum class Woken { by_descriptor, by_time, by_lockrun };
  Woken wait(std::span<::pollfd> descriptors, Instant until) const; // fills in `revents`
  Woken wait(int descriptor, short events, Instant until) const;
  Woken pause(Instant until) const { return wait(-1, 0, until); }

  // The session has something to do then, as if lockrun said something; none: no more.
  void interrupt_at(std::optional<Instant> moment) noexcept { m_interruption = moment; }

  // A call takes longer than it should, and goes on. The session says so.
  void complain(const Failure& failure) const
  {
    if (m_complain) { m_complain(failure); }
  }
  void on_complaint(std::function<void(const Failure&)> listener) { m_complain = std::move(listener); }

  // From now on what lockrun says waits.
  void ignore_lockrun() noexcept { m_hears_lockrun = false; }

private:
  Attention(sys::Poller poller, int lockrun) noexcept : m_poller(std::move(poller)), m_lockrun(lockrun) {}
  sys::Poller m_poller;
  int m_lockrun;
  bool m_hears_lockrun = true;
  std::optional<Instant> m_interruption;
  std::function<void(const Failure&)> m_complain;
};

// The life of an engine program. Returns its exit status.
int run_session(Backend& backend, Attention& attention);

} // namespace lockrun::engines
