"""Keys, sessions, locks and transactions through py-consul, as its users write it. Ends with an error at the first
thing that is not as that library expects it."""

import base64
import sys
import threading

import consul

client = consul.Consul(host="127.0.0.1", port=int(sys.argv[1]))


def keys():
    index, missing = client.kv.get("py/none")
    assert missing is None and int(index) >= 1, (index, missing)
    assert client.kv.put("py/a", "value", flags=42) is True
    index, found = client.kv.get("py/a")
    assert found["Value"] == b"value" and found["Flags"] == 42 and found["ModifyIndex"] == int(index), found
    assert client.kv.put("py/empty", "") is True
    assert client.kv.get("py/empty")[1]["Value"] is None
    assert client.kv.put("py/a", "late", cas=1) is False
    assert client.kv.put("py/a", "in time", cas=found["ModifyIndex"]) is True
    assert client.kv.put("py/sub/b", bytes([0, 255])) is True
    names = client.kv.get("py/", keys=True, separator="/")[1]
    assert names == ["py/a", "py/empty", "py/sub/"], names
    tree = client.kv.get("py/", recurse=True)[1]
    assert [entry["Key"] for entry in tree] == ["py/a", "py/empty", "py/sub/b"], tree
    assert tree[2]["Value"] == bytes([0, 255]), tree
    assert client.kv.delete("py/sub/", recurse=True) is True
    assert client.kv.get("py/sub/", recurse=True)[1] is None


def watches():
    index, missing = client.kv.get("py/watched")
    assert missing is None
    writer = threading.Timer(0.2, lambda: consul.Consul(port=int(sys.argv[1])).kv.put("py/watched", "now"))
    writer.start()
    later, found = client.kv.get("py/watched", index=index, wait="30s")
    writer.join()
    assert found["Value"] == b"now" and int(later) > int(index), (index, later, found)


def locks():
    one = client.session.create(name="one", ttl=10, lock_delay=0)
    two = client.session.create(name="two", ttl=10, behavior="delete", lock_delay=0)
    assert {session["ID"] for session in client.session.list()[1]} >= {one, two}
    assert client.session.info(one)[1]["Name"] == "one"
    assert client.session.renew(one)["TTL"] == "10s"
    assert client.kv.put("py/lock", "1", acquire=one) is True
    assert client.kv.put("py/lock", "2", acquire=two) is False
    assert client.kv.get("py/lock")[1]["Session"] == one
    assert client.kv.put("py/lock", "3", release=one) is True
    assert client.kv.put("py/lock", "4", acquire=two) is True
    assert client.session.destroy(two) is True
    assert client.kv.get("py/lock")[1] is None, "the session removes what it holds"
    assert client.session.destroy(one) is True
    assert client.session.info(one)[1] is None
    try:
        client.session.renew(one)
    except consul.NotFound:
        pass
    else:
        raise AssertionError("a session that has ended was renewed")


def transactions():
    def operation(verb, key, value=b""):
        return {"KV": {"Verb": verb, "Key": key, "Value": base64.b64encode(value).decode()}}

    gave = client.txn.put([operation("set", "py/t", b"x"), operation("get", "py/t")])
    assert gave["Errors"] is None and base64.b64decode(gave["Results"][1]["KV"]["Value"]) == b"x", gave


keys()
watches()
locks()
transactions()
client.kv.delete("py/", recurse=True)
print("all as expected")
