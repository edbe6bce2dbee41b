#include "engines/backoff.hpp"

#include <algorithm>

namespace lockrun::engines {

using std::chrono::milliseconds;

milliseconds Backoff::next(milliseconds limit)
{
  const milliseconds most = std::max(std::min(m_longest, limit), milliseconds(1));
  milliseconds pause = std::min(m_first, most);
  for (int i = 0; i < m_doublings && pause < most; ++i) { pause = std::min(2 * pause, most); }
  if (pause < m_longest) { ++m_doublings; }
  std::uniform_int_distribution<milliseconds::rep> anywhere(pause.count() / 2, pause.count());
  return milliseconds(anywhere(m_random));
}

} // namespace lockrun::engines
