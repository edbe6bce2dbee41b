#pragma once

#include "engines/attention.hpp"
#include "engines/backoff.hpp"
#include "engines/net/background.hpp"
#include "engines/net/http.hpp"
#include "engines/net/names.hpp"

#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace lockrun::engines::net {

// How long a call may go on.
struct Limits {
  Instant until{0};        // in all
  milliseconds one_try{0}; // until another endpoint is asked in addition, and twice as long each time round
  bool rides_out = false;  // goes round while one of them may come back; otherwise each is asked once
  bool complains = false;  // when all have been asked and none has answered yet
  std::int64_t late = 0;   // by which recall() knows this call; 0: it needs none

  Limits with_late(std::int64_t id) const
  {
    Limits limits = *this;
    limits.late = id;
    return limits;
  }
};

// What was answered, and when that was asked.
struct Exchange {
  std::vector<HttpAnswer> answers;
  Instant asked{0};       // just before the sending that was answered
  Instant first_asked{0}; // just before the first sending of all
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

  // Takes back what calls known as `late` asked for and have no answer to. Each such connection is still open, and is
  // asked for this as well: whenever the server gets to the one, it gets to the other next. await_late() waits for
  // that.
  void recall(std::int64_t late, const HttpRequest& request);
  void await_late(Instant until);

  // Asks each server for this, in the background of the next call, except for those which that call asks.
  void survey(HttpRequest request) { m_survey.emplace(Survey{std::move(request), {}, Instant(0), {}}); }

  // Waits for the answers, but for no server that has not even accepted a connection in time, and for none for long.
  Reply<void> await_survey(Instant until);

  // What has been answered in the background since the last time, by which server. Late calls tell as much.
  std::vector<std::pair<std::size_t, HttpAnswer>> take_survey();

  // Takes what has arrived in the background. It goes on by itself only while something else is waited for.
  void look_at_background();

  // A connection of its own, to the server that answered last if that can be reached.
  Reply<HttpConnection> connect(const Limits& limits);

  // Closes the connection that is kept for the next request; not with TLS, whose handshake costs the server more than
  // an idle connection does.
  void rest()
  {
    if (!m_files) { m_connection.reset(); }
  }

  // Called as Limits say.
  void on_delay(std::function<void(const Trouble&)> listener) { m_on_delay = std::move(listener); }

  // The one that answered last.
  std::size_t current() const noexcept { return m_current; }
  std::size_t size() const noexcept { return m_hosts.size(); }
  const Endpoint& endpoint(std::size_t server) const { return m_hosts[server].endpoint(); }

  // Just before any of them was sent anything for the last time; 0: that has not happened.
  Instant last_asked() const noexcept { return m_last_asked; }

private:
  class Call;                                            // net/server_call
  static constexpr milliseconds k_connection_delay{250}; // RFC 8305, section 5
  struct Survey {
    HttpRequest request;
    std::vector<bool> is_due; // by server; empty before it has begun
    Instant began{0};
    std::vector<std::pair<std::size_t, HttpAnswer>> heard{}; // and not taken yet
  };
  Reply<::SSL_CTX*> context();
  Reply<HttpConnection> begin(std::size_t server, const sys::SocketAddress& address);
  void go_on_with_survey(const std::vector<std::size_t>& asked);
  void survey(std::size_t server);
  bool is_survey_over() const;
  void keep_late(std::size_t server, std::int64_t late, HttpConnection connection);
  Attention::Woken wait(std::vector<::pollfd>& descriptors, Instant until);

  const Attention& m_attention;
  Bell m_bell = make_bell();
  std::vector<Host> m_hosts;
  std::optional<TlsFiles> m_files;
  TlsContext m_context;
  std::size_t m_current = 0;
  std::optional<HttpConnection> m_connection; // to the current one, idle
  Backoff m_backoff{milliseconds(100), milliseconds(1'000)};
  Instant m_not_before{0}; // while all of them fail
  Instant m_last_asked{0};
  std::optional<Trouble> m_last_trouble;
  std::function<void(const Trouble&)> m_on_delay;
  Background m_background;
  std::optional<Survey> m_survey;
};

} // namespace lockrun::engines::net
