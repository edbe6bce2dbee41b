#include "engines/net/server_call.hpp"

#include "sys/clock.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace lockrun::engines::net {

using Kind = Trouble::Kind;
using Wrong = tl::unexpected<Trouble>;

namespace {

constexpr std::size_t k_most_tries = 8;        // at the same time
constexpr std::size_t k_most_bytes = 4 << 20U; // of answers that are not complete, of all tries together

} // namespace

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

// The one that has all answers, if any has.
std::optional<HttpConnection> Servers::Call::advance_ready()
{
  for (Try& one : m_tries) {
    if (!one.is_ready) { continue; }
    if (auto winner = advance(one)) { return winner; }
  }
  std::erase_if(m_tries, [](const Try& one) { return one.is_over; });
  return std::nullopt;
}

bool Servers::Call::has_nothing_left() const
{
  return m_rounds > 0 && m_tries.empty() && m_candidates.empty() && !awaits_names();
}

bool Servers::Call::has_only_names() const
{
  return m_tries.empty() && m_candidates.empty() && awaits_names();
}

// All have been asked, and none has answered yet.
void Servers::Call::complain_of_another_round()
{
  const bool is_another = m_candidates.empty() && m_rounds > 0;
  if (!is_another || !m_limits.complains || !m_servers.m_on_delay) { return; }
  if (!std::exchange(m_has_complained, true)) { m_servers.m_on_delay(all_troubles()); }
}

// A call that had no time for a try says what was wrong with the one before.
Trouble Servers::Call::out_of_time() const
{
  const bool was_too_late = m_rounds == 0 && m_tries.empty() && m_servers.m_last_trouble;
  return was_too_late ? *m_servers.m_last_trouble : all_troubles();
}

Reply<HttpConnection> Servers::Call::run()
{
  m_awaited.assign(m_servers.size(), false);
  m_next_try = std::min<Instant>(m_servers.m_not_before, sys::elapsed_now() + m_limits.one_try);
  reuse_connection();
  for (;;) {
    if (auto winner = advance_ready()) { return std::move(*winner); }
    look_at_names();
    const Instant now = sys::elapsed_now();
    if (now >= m_limits.until) { return Wrong(out_of_time()); }
    if (has_nothing_left() && !m_is_resting) {
      const auto rested = rest();
      if (!rested) { return Wrong(rested.error()); }
      m_is_resting = true;
    }
    if (now >= m_next_try && has_only_names()) {
      hurry_names();
    } else if (now >= m_next_try) {
      complain_of_another_round();
      m_is_resting = false;
      begin_try();
      continue;
    }
    if (wait(std::min(m_limits.until, m_next_try)) == Attention::Woken::by_lockrun) {
      return Wrong(Trouble{Kind::interrupted, std::string()});
    }
  }
}

} // namespace lockrun::engines::net
