"""The relay: everything said to a downstream MTA, and nothing decided about it.

`client` is one connection, `pool` keeps connections and knows which addresses are down, `login` is the
connection of one session that logs in, `capabilities` what all downstreams can do, `router` finds the
entry for a recipient, `identity` tells the downstream who the client is, `delivery` is one mail
transaction as the client's dialogue drives it.
"""
