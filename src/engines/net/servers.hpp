#pragma once

#include "engines/backoff.hpp"
#include "engines/net/http.hpp"
#include "engines/net/names.hpp"
#include "engines/session.hpp"

#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace lockrun::engines::net {

// How long a call may go on.
struct Limits {
  Moment until{0};         // in all
  milliseconds one_try{0}; // until another endpoint is asked in addition, and twice as long each time round
  bool rides_out = false;  // goes round while one of them may come back; otherwise each is asked once
  bool complains = false;  // when all have been asked and none has answered yet
};

// What was answered, and when that was asked.
struct Exchange {
  std::vector<HttpAnswer> answers;
  Moment asked{0};       // just before the sending that was answered
  Moment first_asked{0}; // just before the first sending of all
};

// The servers of one service, any of which may be asked. One that is silent is not given up: another one is asked in
// addition, and the first answer to any of these tries counts.
class Servers {
public:
  explicit Servers(const Attention& attention) : m_attention(attention) {}

  // Without files there is no TLS. The first one to be asked is any of them, so that not all callers load the same.
  void open(const std::vector<Endpoint>& endpoints, std::optional<TlsFiles> files);

  // What the answers mean: none when they are what counts, otherwise what another server, or the same one later, may do
  // better.
  using Verdict = std::function<std::optional<Trouble>(const std::vector<HttpAnswer>&)>;

  // Asks for everything in one go. That must be such that it can be asked more than once.
  Reply<Exchange> ask(const std::vector<HttpRequest>& requests, const Limits& limits, const Verdict& verdict);

  // A connection of its own, to the server that answered last if that can be reached.
  Reply<HttpConnection> connect(const Limits& limits);

  // Closes the connection that is kept for the next request.
  void rest() { m_connection.reset(); }

  // Called as Limits say.
  void on_delay(std::function<void(const Trouble&)> listener) { m_on_delay = std::move(listener); }

  // The one that answered last.
  std::size_t current() const noexcept { return m_current; }
  std::size_t size() const noexcept { return m_hosts.size(); }

private:
  class Call;
  Reply<::SSL_CTX*> context();

  const Attention& m_attention;
  Bell m_bell = make_bell();
  std::vector<Host> m_hosts;
  std::optional<TlsFiles> m_files;
  TlsContext m_context;
  std::size_t m_current = 0;
  std::optional<HttpConnection> m_connection; // to the current one, idle
  Backoff m_backoff{milliseconds(100), milliseconds(1'000)};
  Moment m_not_before{0}; // while all of them fail
  std::optional<Trouble> m_last_trouble;
  std::function<void(const Trouble&)> m_on_delay;
};

} // namespace lockrun::engines::net
