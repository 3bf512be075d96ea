"""The relay: everything said to a downstream MTA, and nothing decided about it.

`client` is one connection, `pool` keeps connections and knows which addresses are down, `router`
finds the entry for a recipient, `delivery` is one mail transaction as the client's dialogue drives it.
"""
