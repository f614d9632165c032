# One server on your own machine, as `tribune agent -dev` gives it, but with a data directory:
# what is registered is still there after a restart.
#
#   tribune agent -config-file=configs/single.hcl

server           = true
bootstrap_expect = 1 # it is alone and begins at once

datacenter = "dc1"
node_name  = "laptop"

# Everything durable: the log, snapshots, this agent's own services, the node's id.
data_dir = "./tribune-data"

# Nothing outside this machine can reach it.
bind_addr   = "127.0.0.1"
client_addr = "127.0.0.1"

ports {
  http = 8500 # HTTP API
  dns  = 8600 # DNS over UDP and TCP
}

log_level = "info"

# A service with a check, as its own file could also define it (see services.hcl).
service {
  name = "hello"
  port = 8080
  tags = ["example"]

  check {
    name     = "answers on its port"
    tcp      = "127.0.0.1:8080"
    interval = "10s"
    timeout  = "1s"
  }
}
