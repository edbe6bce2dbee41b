// lockrun-engine-etcd: holds locks in etcd for lockrun, which starts it (lockrun-engine(7)).
#include "engines/etcd/lock.hpp"
#include "engines/session.hpp"

using namespace lockrun;

int main()
{
  engines::run_program([](const engines::Attention& attention) -> std::unique_ptr<engines::Backend> {
    return std::make_unique<engines::etcd::EtcdLock>(attention);
  });
}
