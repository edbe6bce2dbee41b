#pragma once

#include "engines/protocol.hpp"
#include "engines/url.hpp"
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

// Moments are of the elapsed clock (CLOCK_BOOTTIME), which no administrator can set and no suspension stops.
using Moment = nanoseconds;

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
struct Party {
  Mode mode = Mode::exclusive;
  bool waits = false;
  std::int64_t position = 0; // of one who waits, from 1
  std::string token{};       // as in Grant
  std::optional<int> slot{};
  std::optional<Owner> owner{}; // none: it left no name
  std::string text{};           // who it is, in words
};

// Where we stand after joining.
struct Standing {
  bool is_held = false;
  std::int64_t position = 0;     // among those who wait, from 1
  std::optional<Party> holder{}; // one who is in the way
  std::vector<Party> nearby{};   // others who hold it, on the host of the one who asks: he may descend from one of them
};

// Why there is no lock.
struct Failure {
  int status = 0;     // sysexits.h
  std::string reason; // a word of lockrun-engine(7)
  std::string text;
  std::string holder{};
  std::string hint{};
  std::optional<Standing> standing{}; // what we would have to wait for
};
template <class T>
using Outcome = tl::expected<T, Failure>;

inline constexpr const char* k_interrupted = "interrupted"; // lockrun has something to say; never sent
Failure usage(std::string text, std::string hint = {});

// What lockrun is told with HELD.
struct Grant {
  std::string token; // greater for every later holder: a number, or what the engine's manual says how to compare
  std::string key;
  std::optional<int> slot;
  std::string epoch{}; // what the server is, and its history; tokens of different epochs cannot be compared
};

// A moment up to which the lock is ours for sure, and the TTL that it was computed from.
struct Lease {
  Moment deadline{0};
  milliseconds ttl{0};
};

// `asked` is the moment before the renewal was sent, `ttl` what the server returned. One percent is for clocks that run
// at different rates.
Lease lease_from(Moment asked, milliseconds ttl);

// When to renew a lease next.
Moment renewal_of(const Lease& lease);

// Until when it needs no renewal before the command starts: for a tenth of its time.
Moment fresh_until(const Lease& lease);

// How long one endpoint may take for its answer to a renewal before another one is asked in addition.
milliseconds try_limit(milliseconds ttl);

// One kind of server. Calls talk to it and may take long; all but leave() and release() return `interrupted` as soon as
// lockrun says something. None of them throws.
class Backend {
public:
  virtual ~Backend() = default;

  virtual const char* name() const = 0;
  virtual const char* abilities() const = 0; // for ENGINE can=…
  virtual const char* default_port() const = 0;
  virtual UrlForm url_form() const { return UrlForm::path; }

  // Takes what the URL says; talks to nobody yet.
  virtual Outcome<void> open(const Url& url) = 0;

  // Holders first, then those who wait, in their order.
  virtual Outcome<std::vector<Party>> status() = 0;

  // Queues, or gets the lock. May be called again after it was interrupted or after the place in the queue was lost.
  virtual Outcome<Standing> join(const Demand& demand, Moment until) = 0;

  // A descriptor that is readable when something may have changed, -1 for none; and whether something has that matters.
  virtual int changes() const = 0;
  virtual bool is_stirred() = 0;

  // Renews, proves that our place is still ours, and tells where we stand now. None: it is definitely lost, loss() says
  // why; a failure leaves everything open. lease() is what we have then.
  virtual Outcome<std::optional<Standing>> renew() = 0;
  virtual std::string loss() const = 0;
  virtual Lease lease() const = 0;

  virtual Grant grant() const = 0;

  // What can wait until lockrun knows how we stand: a moment after HELD, and after each renewal.
  virtual Outcome<void> settle() = 0;

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
  Woken wait(std::span<::pollfd> descriptors, Moment until) const; // fills in `revents`
  Woken wait(int descriptor, short events, Moment until) const;
  Woken pause(Moment until) const { return wait(-1, 0, until); }

  // The session has something to do then, as if lockrun said something; none: no more.
  void interrupt_at(std::optional<Moment> moment) noexcept { m_interruption = moment; }

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
  std::optional<Moment> m_interruption;
  std::function<void(const Failure&)> m_complain;
};

// The life of an engine program. Returns its exit status.
int run_session(Backend& backend, Attention& attention);

} // namespace lockrun::engines
