# A client agent of datacenter dc1: on every host that runs services, beside the files that define them. It checks
# them, keeps no catalog of its own and asks the servers for everything else.
#
#   tribune tls cert create -client -dc=dc1        # for each client agent of dc1

server = false

datacenter = "dc1"
data_dir   = "/var/lib/tribune"

client_addr = "127.0.0.1" # HTTP and DNS for the programs of this host

# What others are told. Leave it out when the host has one private IPv4 address.
advertise_addr = "10.1.0.20"

retry_join = ["10.1.0.10", "10.1.0.11", "10.1.0.12"]

# As on the servers.
encrypt = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="

ca_file   = "/etc/tribune.d/tls/consul-agent-ca.pem"
cert_file = "/etc/tribune.d/tls/dc1-client-consul-0.pem"
key_file  = "/etc/tribune.d/tls/dc1-client-consul-0-key.pem"

verify_incoming        = true
verify_outgoing        = true
verify_server_hostname = true
