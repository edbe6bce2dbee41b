#include "engines/net/servers.hpp"

#include "sys/clock.hpp"

#include <algorithm>
#include <deque>
#include <random>

#include <fmt/format.h>

namespace lockrun::engines::net {
namespace {

using Kind = Trouble::Kind;
using Wrong = tl::unexpected<Trouble>;

constexpr milliseconds k_connection_delay{250}; // RFC 8305, section 5
constexpr std::size_t k_most_tries = 8;         // at the same time
constexpr std::size_t k_most_late = 16;         // connections that wait to be recalled
constexpr std::int64_t k_survey = 0;            // in the background; other numbers are late calls,
constexpr std::int64_t k_recalled = -1;         // or were
// How long a survey waits for a server that shows no sign of life: the others have answered long since.
constexpr milliseconds k_sign_of_life{50};
constexpr milliseconds k_longest_survey{10'000};
constexpr std::size_t k_most_bytes = 4 << 20U; // of answers that are not complete, of all tries together

} // namespace

void Servers::open(const std::vector<Endpoint>& endpoints, std::optional<TlsFiles> files)
{
  for (const Endpoint& endpoint : endpoints) { m_hosts.emplace_back(endpoint, m_bell); }
  m_files = std::move(files);
  if (m_hosts.size() > 1) {
    std::random_device device;
    m_current = std::uniform_int_distribution<std::size_t>(0, m_hosts.size() - 1)(device);
  }
}

// Made when it is needed: it takes milliseconds to read who is to be trusted.
Reply<::SSL_CTX*> Servers::context()
{
  if (m_files && !m_context) {
    auto made = make_tls_context(*m_files);
    if (!made) { return Wrong(made.error()); }
    m_context = std::move(*made);
  }
  return m_context.get();
}

Reply<HttpConnection> Servers::begin(std::size_t server, const sys::SocketAddress& address)
{
  const auto trusted = context();
  if (!trusted) { return Wrong(trusted.error()); }
  const Endpoint& endpoint = m_hosts[server].endpoint();
  auto wire = Wire::begin(address, endpoint.host, *trusted);
  if (!wire) { return Wrong(wire.error()); }
  return HttpConnection(std::move(*wire), endpoint.text());
}

// One call: tries that run at the same time.
class Servers::Call {
public:
  Call(Servers& servers, const std::vector<HttpRequest>& requests, const Limits& limits, const Verdict& verdict)
    : m_servers(servers), m_requests(requests), m_limits(limits), m_verdict(verdict), m_said(servers.size())
  {}

  // The try that succeeded; its connection has the answers.
  Reply<HttpConnection> run();
  void keep_late(); // tries that have been asked and have not answered
  std::vector<HttpAnswer> take_answers() { return std::move(m_answers); }
  Instant first_asked() const noexcept { return m_first_asked; }

private:
  struct Candidate {
    std::size_t server;
    sys::SocketAddress address;
  };
  struct Try {
    Candidate target;
    HttpConnection connection;
    bool is_reused = false;
    bool is_ready = false; // to go on
    bool is_over = false;
  };

  void begin_round();
  void add_addresses(std::size_t server);
  void begin_try();
  void begin_try(const Candidate& target);
  void reuse_connection();
  void look_at_names();
  void hurry_names();
  std::optional<HttpConnection> advance(Try& one);
  void fail(std::size_t server, const Trouble& trouble);
  void judge_try(Try& one, const Trouble& trouble);
  milliseconds pause() const;
  bool has_room();
  bool awaits_names() const;
  bool has_hope() const;
  Reply<void> rest();
  Trouble all_troubles() const;
  Attention::Woken wait(Instant until);

  Servers& m_servers;
  const std::vector<HttpRequest>& m_requests;
  const Limits& m_limits;
  const Verdict& m_verdict;
  std::vector<std::optional<Trouble>> m_said; // by each of the servers
  std::deque<Candidate> m_candidates;         // of this round, still to be tried
  std::vector<bool> m_awaited;                // servers whose addresses this round waits for
  std::vector<Try> m_tries;
  int m_rounds = 0;
  Instant m_next_try{0};
  bool m_is_resting = false; // all have failed, and the next round is due at m_next_try
  bool m_has_complained = false;
  std::vector<HttpAnswer> m_answers;
  Instant m_first_asked{0};
};

// Every server's best address first, then the second ones.
void Servers::Call::begin_round()
{
  const std::size_t count = m_servers.size();
  m_awaited.assign(count, false);
  const bool is_first = m_rounds++ == 0;
  const std::size_t first = m_servers.m_current + (is_first && !m_tries.empty() ? 1 : 0); // that one is asked already
  std::vector<std::size_t> order;
  std::size_t most = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t server = (first + i) % count;
    Host& host = m_servers.m_hosts[server];
    // Perhaps they have changed since all of them failed, in this call or in the one before.
    if (host.addresses().empty() || !is_first || m_servers.m_last_trouble) { host.look_up(); }
    if (host.addresses().empty()) {
      m_awaited[server] = host.is_being_looked_up();
      if (!m_awaited[server] && host.trouble()) { fail(server, *host.trouble()); }
      continue;
    }
    order.push_back(server);
    most = std::max(most, host.addresses().size());
  }
  for (std::size_t i = 0; i < most; ++i) {
    for (const std::size_t server : order) {
      const auto& addresses = m_servers.m_hosts[server].addresses();
      if (i < addresses.size()) { m_candidates.push_back({server, addresses[i]}); }
    }
  }
}

void Servers::Call::add_addresses(std::size_t server)
{
  for (const sys::SocketAddress& address : m_servers.m_hosts[server].addresses()) {
    m_candidates.push_back({server, address});
  }
}

void Servers::Call::fail(std::size_t server, const Trouble& trouble)
{
  m_said[server] = trouble;
  if (!m_candidates.empty()) { m_next_try = Instant(0); } // the next one at once
}

void Servers::Call::begin_try(const Candidate& target)
{
  auto connection = m_servers.begin(target.server, target.address);
  if (!connection) { return fail(target.server, connection.error()); }
  Try& fresh = m_tries.emplace_back(Try{target, std::move(*connection)});
  fresh.connection.ask(m_requests);
}

// How long until a further try. Those that were asked may be about to answer: the more there are, the longer they get.
// A connection that is not made yet is no better than a fresh one.
milliseconds Servers::Call::pause() const
{
  const auto is_asked = [](const Try& one) { return one.connection.asked() != Instant(0); };
  if (m_tries.empty() || !is_asked(m_tries.back())) { return std::max(k_connection_delay, m_limits.one_try / 2); }
  const auto asked = std::count_if(m_tries.begin(), m_tries.end(), is_asked);
  return m_limits.one_try * (1 << ((asked - 1) / static_cast<std::ptrdiff_t>(m_servers.size())));
}

// Makes room for another try, at the expense of one whose connection has not been made for the longest time.
bool Servers::Call::has_room()
{
  if (m_tries.size() < k_most_tries) { return true; }
  const auto oldest =
    std::find_if(m_tries.begin(), m_tries.end(), [](const Try& one) { return one.connection.asked() == Instant(0); });
  if (oldest == m_tries.end()) { return false; }
  m_said[oldest->target.server] = Trouble{Kind::silent, "no answer in time"};
  m_tries.erase(oldest);
  return true;
}

// The next candidate; when there is none another round begins.
void Servers::Call::begin_try()
{
  if (m_candidates.empty()) { begin_round(); }
  m_next_try = sys::elapsed_now() + pause();
  if (m_candidates.empty() || !has_room()) { return; } // names are looked up
  const Candidate target = m_candidates.front();
  m_candidates.pop_front();
  if (!m_candidates.empty()) { m_next_try = sys::elapsed_now() + k_connection_delay; }
  begin_try(target);
}

void Servers::Call::reuse_connection()
{
  auto& kept = m_servers.m_connection;
  if (!kept || !kept->is_usable() || m_requests.empty()) { return; }
  const auto& addresses = m_servers.m_hosts[m_servers.m_current].addresses();
  const sys::SocketAddress address = addresses.empty() ? sys::SocketAddress{} : addresses.front();
  Try& reused = m_tries.emplace_back(Try{{m_servers.m_current, address}, std::move(*kept), true, true});
  kept.reset();
  reused.connection.ask(m_requests);
  m_next_try = sys::elapsed_now() + k_connection_delay;
}

void Servers::Call::look_at_names()
{
  silence(m_servers.m_bell);
  for (std::size_t server = 0; server < m_servers.size(); ++server) {
    Host& host = m_servers.m_hosts[server];
    if (!host.take() || !m_awaited[server]) { continue; }
    m_awaited[server] = false;
    if (host.addresses().empty()) {
      fail(server, host.trouble().value_or(Trouble{}));
      continue;
    }
    add_addresses(server);
    if (m_tries.empty()) { m_next_try = Instant(0); } // nothing else is under way
  }
}

// There is nothing to try without them.
void Servers::Call::hurry_names()
{
  for (std::size_t server = 0; server < m_servers.size(); ++server) {
    if (m_awaited[server]) { m_servers.m_hosts[server].look_up(); }
  }
  m_next_try = m_limits.until;
}

void Servers::Call::judge_try(Try& one, const Trouble& trouble)
{
  one.is_over = true;
  // The server may have closed a connection that was idle: that says nothing about it.
  if (one.is_reused && trouble.kind == Kind::unreachable) {
    const auto& addresses = m_servers.m_hosts[one.target.server].addresses();
    if (!addresses.empty()) { m_candidates.push_front({one.target.server, addresses.front()}); }
    m_next_try = Instant(0);
    return;
  }
  Trouble said = trouble;
  const bool was_asked = one.connection.asked() != Instant(0);
  if (!m_servers.m_files && was_asked && said.kind == Kind::unreachable) { said.text += ", perhaps it wants TLS"; }
  fail(one.target.server, said);
}

// The connection, once it has all answers and they count.
std::optional<HttpConnection> Servers::Call::advance(Try& one)
{
  one.is_ready = false;
  const Instant asked = one.connection.asked();
  const auto progress = one.connection.advance();
  if (asked == Instant(0) && one.connection.asked() != Instant(0)) {
    m_servers.m_last_asked = one.connection.asked();
    if (m_first_asked == Instant(0)) { m_first_asked = one.connection.asked(); }
    // It is connected, so that only its answer is to be waited for.
    m_next_try = std::max<Instant>(m_next_try, one.connection.asked() + pause());
  }
  if (!progress) {
    judge_try(one, progress.error());
    return std::nullopt;
  }
  if (*progress == Progress::waiting) {
    std::size_t bytes = 0;
    for (const Try& each : m_tries) { bytes += each.connection.size(); }
    if (bytes > k_most_bytes) { judge_try(one, {Kind::wrong_service, "its answer is too long"}); }
    return std::nullopt;
  }
  m_answers = one.connection.take_answers();
  if (const auto trouble = m_verdict(m_answers)) {
    judge_try(one, *trouble);
    return std::nullopt;
  }
  Servers& servers = m_servers;
  servers.m_current = one.target.server;
  servers.m_hosts[servers.m_current].prefer(one.target.address);
  one.is_over = true;
  return std::move(one.connection);
}

bool Servers::Call::awaits_names() const
{
  return std::find(m_awaited.begin(), m_awaited.end(), true) != m_awaited.end();
}

bool Servers::Call::has_hope() const
{
  return std::any_of(m_said.begin(), m_said.end(), [](const std::optional<Trouble>& one) {
    return one && (one->kind == Kind::silent || one->kind == Kind::unavailable);
  });
}

// All the same: that is what is wrong. Else it is just that nobody can be reached.
Trouble Servers::Call::all_troubles() const
{
  auto said = m_said;
  for (std::size_t i = 0; i < said.size(); ++i) {
    if (i < m_awaited.size() && m_awaited[i]) {
      const Trouble slow{Kind::unreachable, "its name is not resolved in time"};
      said[i] = m_servers.m_hosts[i].trouble().value_or(slow); // what the look-up before this one has said
    }
  }
  for (const Try& one : m_tries) { said[one.target.server] = Trouble{Kind::silent, "no answer in time"}; }
  Trouble all{Kind::unreachable, std::string()};
  std::optional<Kind> common;
  bool is_common = true;
  for (std::size_t i = 0; i < said.size(); ++i) {
    if (!said[i]) { continue; }
    is_common = is_common && common.value_or(said[i]->kind) == said[i]->kind;
    common = said[i]->kind;
    const std::string name = m_servers.m_hosts[i].endpoint().text();
    all.text += fmt::format("{}{}: {}", all.text.empty() ? "" : "; ", name, said[i]->text);
  }
  if (common && is_common) { all.kind = *common; }
  if (all.text.empty()) { all.text = "no answer in time"; }
  return all;
}

void Servers::Call::keep_late()
{
  for (Try& one : m_tries) {
    if (one.is_over || one.connection.asked() == Instant(0)) { continue; }
    m_servers.keep_late(one.target.server, m_limits.late, std::move(one.connection));
  }
}

Attention::Woken Servers::Call::wait(Instant until)
{
  std::vector<std::size_t> asked;
  std::vector<::pollfd> descriptors{{m_servers.m_bell->get(), POLLIN, 0}};
  for (const Try& one : m_tries) {
    asked.push_back(one.target.server);
    descriptors.push_back({one.connection.descriptor(), one.connection.events(), 0});
  }
  m_servers.go_on_with_survey(asked);
  const auto woken = m_servers.wait(descriptors, until);
  for (std::size_t i = 0; i < m_tries.size(); ++i) { m_tries[i].is_ready = descriptors[i + 1].revents != 0; }
  return woken;
}

// All of them have failed. The next round, or the next call, begins after a pause.
Reply<void> Servers::Call::rest()
{
  const milliseconds longest = m_limits.rides_out ? milliseconds::max() : m_limits.one_try / 2;
  const Instant next = sys::elapsed_now() + m_servers.m_backoff.next(longest);
  if (!m_limits.rides_out || !has_hope() || next >= m_limits.until) {
    m_servers.m_not_before = next;
    return Wrong(all_troubles());
  }
  m_next_try = next;
  return {};
}

Reply<HttpConnection> Servers::Call::run()
{
  m_awaited.assign(m_servers.size(), false);
  m_next_try = std::min<Instant>(m_servers.m_not_before, sys::elapsed_now() + m_limits.one_try);
  reuse_connection();
  for (;;) {
    for (Try& one : m_tries) {
      if (!one.is_ready) { continue; }
      if (auto winner = advance(one)) { return std::move(*winner); }
    }
    std::erase_if(m_tries, [](const Try& one) { return one.is_over; });
    look_at_names();
    const Instant now = sys::elapsed_now();
    if (now >= m_limits.until) {
      const bool was_too_late = m_rounds == 0 && m_tries.empty() && m_servers.m_last_trouble;
      return Wrong(was_too_late ? *m_servers.m_last_trouble : all_troubles());
    }
    const bool has_candidates = !m_candidates.empty();
    const bool is_idle = m_tries.empty() && !has_candidates && !awaits_names();
    if (m_rounds > 0 && is_idle && !m_is_resting) {
      const auto rested = rest();
      if (!rested) { return Wrong(rested.error()); }
      m_is_resting = true;
    }
    if (now >= m_next_try && awaits_names() && m_tries.empty() && !has_candidates) {
      hurry_names();
    } else if (now >= m_next_try) {
      const bool is_another_round = !has_candidates && m_rounds > 0;
      if (is_another_round && m_limits.complains && !std::exchange(m_has_complained, true) && m_servers.m_on_delay) {
        m_servers.m_on_delay(all_troubles());
      }
      m_is_resting = false;
      begin_try();
      continue;
    }
    if (wait(std::min(m_limits.until, m_next_try)) == Attention::Woken::by_lockrun) {
      return Wrong(Trouble{Kind::interrupted, std::string()});
    }
  }
}

Reply<Exchange> Servers::ask(const std::vector<HttpRequest>& requests, const Limits& limits, const Verdict& verdict)
{
  Call call(*this, requests, limits, verdict);
  auto winner = call.run();
  if (limits.late != 0) { call.keep_late(); }
  if (!winner) {
    if (winner.error().kind != Kind::interrupted) { m_last_trouble = winner.error(); }
    return Wrong(winner.error());
  }
  m_last_trouble.reset();
  m_backoff.reset();
  m_not_before = Instant(0);
  const Instant asked = winner->asked();
  if (winner->is_usable()) { m_connection = std::move(*winner); }
  return Exchange{call.take_answers(), asked, call.first_asked()};
}

Reply<HttpConnection> Servers::connect(const Limits& limits)
{
  const std::vector<HttpRequest> nothing;
  const Verdict any = [](const auto&) { return std::nullopt; };
  Call call(*this, nothing, limits, any);
  return call.run();
}

void Servers::keep_late(std::size_t server, std::int64_t late, HttpConnection connection)
{
  auto& tasks = m_background.tasks();
  const auto is_late = [](const Background::Task& task) { return task.id != k_survey; };
  if (static_cast<std::size_t>(std::count_if(tasks.begin(), tasks.end(), is_late)) >= k_most_late) {
    tasks.erase(std::find_if(tasks.begin(), tasks.end(), is_late));
  }
  m_background.add({server, late, std::move(connection)});
}

void Servers::recall(std::int64_t late, const HttpRequest& request)
{
  for (Background::Task& task : m_background.tasks()) {
    if (task.id != late) { continue; }
    task.connection.ask_also(request);
    (void)task.connection.advance(); // sends it; what is wrong with it shows later
    task.id = k_recalled;
  }
}

void Servers::await_late(Instant until)
{
  std::erase_if(m_background.tasks(), [](const Background::Task& task) { return task.id == k_survey; });
  while (!m_background.tasks().empty() && sys::elapsed_now() < until) {
    std::vector<::pollfd> descriptors;
    if (wait(descriptors, until) == Attention::Woken::by_lockrun) { return; }
  }
}

// Begins with those servers whose addresses are known by now, all of which are tried.
void Servers::go_on_with_survey(const std::vector<std::size_t>& asked)
{
  if (!m_survey) { return; }
  if (m_survey->is_due.empty()) {
    m_survey->is_due.assign(size(), true);
    for (const std::size_t server : asked) { m_survey->is_due[server] = false; }
    m_survey->began = sys::elapsed_now();
  }
  for (std::size_t server = 0; server < size(); ++server) {
    if (!m_survey->is_due[server] || m_hosts[server].addresses().empty()) { continue; }
    m_survey->is_due[server] = false;
    survey(server);
  }
}

void Servers::survey(std::size_t server)
{
  for (const sys::SocketAddress& address : m_hosts[server].addresses()) {
    auto connection = begin(server, address);
    if (!connection) { continue; } // nothing can be asked there
    connection->ask({m_survey->request});
    m_background.add({server, k_survey, std::move(*connection)});
  }
}

bool Servers::is_survey_over() const
{
  for (std::size_t server = 0; server < size(); ++server) {
    const bool is_due = m_survey->is_due.empty() || m_survey->is_due[server];
    if (is_due && m_hosts[server].is_being_looked_up()) { return false; }
  }
  const auto& tasks = m_background.tasks();
  return std::none_of(tasks.begin(), tasks.end(), [](const Background::Task& task) { return task.id == k_survey; });
}

// Callers that ask the servers in different orders see the same latencies, if they are in the same place: whichever
// server a call takes its time with, those that are faster have answered in the meantime.
Reply<void> Servers::await_survey(Instant until)
{
  while (m_survey) {
    go_on_with_survey({m_current});
    if (is_survey_over()) { break; }
    const auto& tasks = m_background.tasks();
    const bool is_alive = std::any_of(
      tasks.begin(), tasks.end(), [](const Background::Task& task) { return task.id == k_survey && task.is_alive; });
    const Instant limit = std::min<Instant>(until, m_survey->began + (is_alive ? k_connection_delay : k_sign_of_life));
    std::vector<::pollfd> descriptors{{m_bell->get(), POLLIN, 0}};
    const auto woken = wait(descriptors, limit);
    if (woken == Attention::Woken::by_lockrun) { return Wrong(Trouble{Kind::interrupted, std::string()}); }
    if (woken == Attention::Woken::by_time) { break; }
    silence(m_bell);
    for (Host& host : m_hosts) { (void)host.take(); } // what failed is no answer
  }
  return {};
}

std::vector<std::pair<std::size_t, HttpAnswer>> Servers::take_survey()
{
  return m_survey ? std::exchange(m_survey->heard, {}) : std::vector<std::pair<std::size_t, HttpAnswer>>();
}

void Servers::look_at_background()
{
  auto& tasks = m_background.tasks();
  if (tasks.empty()) { return; }
  std::vector<::pollfd> descriptors;
  (void)wait(descriptors, Instant(0));
  if (m_survey && sys::elapsed_now() >= m_survey->began + k_longest_survey) {
    std::erase_if(tasks, [](const Background::Task& task) { return task.id == k_survey; });
  }
}

// For these, and for what goes on in the background, whose descriptors are added to them.
Attention::Woken Servers::wait(std::vector<::pollfd>& descriptors, Instant until)
{
  const std::size_t own = descriptors.size();
  m_background.add_interests(descriptors);
  const auto woken = m_attention.wait(descriptors, until);
  auto& tasks = m_background.tasks();
  for (Background::Answers& arrived : m_background.go_on(std::span(descriptors).subspan(own))) {
    if (m_survey) { m_survey->heard.emplace_back(arrived.server, std::move(arrived.answers.front())); }
    if (arrived.id != k_survey) { continue; }
    std::erase_if(tasks, [&](const Background::Task& task) { // other addresses of the same
      return task.id == k_survey && task.server == arrived.server;
    });
  }
  return woken;
}

} // namespace lockrun::engines::net
