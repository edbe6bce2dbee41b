// lockrun-engine-etcd: holds locks in etcd for lockrun, which starts it (lockrun-engine(7)).
#include "engines/etcd/lock.hpp"
#include "sys/process.hpp"
#include "sys/signal.hpp"

#include <csignal>
#include <cstdlib>
#include <sysexits.h>

using namespace lockrun;

int main()
{
  // OpenSSL writes without MSG_NOSIGNAL.
  (void)sys::set_disposition(SIGPIPE, sys::Disposition::ignored); // cannot fail for a signal that exists
  // The resolver waits five seconds for a name server that is away before it asks the next one, for each of the names
  // that a list of domains makes of one (resolv.conf(5)). It goes on listening to a slow one while it asks again. What
  // the user wants counts.
  (void)::setenv("RES_OPTIONS", "timeout:1 attempts:5", 0); // without memory it waits for longer
  auto attention = engines::Attention::create();
  if (!attention) { sys::exit_now(EX_OSERR); }
  engines::etcd::EtcdLock lock(*attention);
  // A name may still be looked up in a thread: nothing waits for it.
  sys::exit_now(engines::run_session(lock, *attention));
}
