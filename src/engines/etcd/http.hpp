#pragma once

#include "engines/etcd/wire.hpp"

#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace lockrun::engines::etcd {

struct HttpAnswer {
  unsigned status = 0;
  std::string body;
};

struct HttpRequest {
  std::string host;
  std::string path;
  std::string body;
  std::string authorization; // empty: none
};

// One HTTP/1.1 connection, for one request after the other.
class HttpConnection {
public:
  explicit HttpConnection(Wire wire);
  HttpConnection(HttpConnection&&) noexcept;
  HttpConnection& operator=(HttpConnection&&) noexcept;
  ~HttpConnection();

  Reply<HttpAnswer> post(const HttpRequest& request, const Attention& attention, Moment until);

  // Both go out at once; the server answers one after the other.
  Reply<std::pair<HttpAnswer, HttpAnswer>> post_both(
    const HttpRequest& first, const HttpRequest& second, const Attention& attention, Moment until);

  // False once an answer was the last one, or came only in part.
  bool is_usable() const noexcept;

  // Sends a request whose answer has no end. What has arrived of its body is then taken in pieces, as they come.
  Reply<void> open_stream(const HttpRequest& request, const Attention& attention, Moment until);
  struct Piece {
    std::string bytes; // may be empty
    bool is_last = false;
  };
  Reply<Piece> take_piece();
  unsigned stream_status() const; // 0 while there is no header yet
  int descriptor() const noexcept;

private:
  Reply<HttpAnswer> take_answer(const Attention& attention, Moment until);

  struct State;
  std::unique_ptr<State> m_state;
};

} // namespace lockrun::engines::etcd
