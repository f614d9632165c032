# The server of datacenter dc2, federated with dc1. What is explained in dc1-server.hcl is not repeated here.
#
#   tribune tls cert create -server -dc=dc2        # with the same CA

server           = true
bootstrap_expect = 1 # a single server; one that fails takes its datacenter with it, and dc1 notices nothing

datacenter = "dc2"
data_dir   = "/var/lib/tribune"

client_addr = "127.0.0.1"

# What others are told. Leave it out when the host has one private IPv4 address.
advertise_addr = "10.2.0.10"

# Every datacenter has a key of its own.
encrypt = "PhbubowvrO6nE2MBSETCg6DdkuEvHVndFmNbJLgCYPY="

ca_file   = "/etc/tribune.d/tls/consul-agent-ca.pem"
cert_file = "/etc/tribune.d/tls/dc2-server-consul-0.pem"
key_file  = "/etc/tribune.d/tls/dc2-server-consul-0-key.pem"

verify_incoming        = true
verify_outgoing        = true
verify_server_hostname = true

# All servers of dc1, so that it does not matter which of them is away when this one starts.
retry_join_wan = ["10.1.0.10", "10.1.0.11", "10.1.0.12"]
