"""Looking into what can hurt, in processes that can hurt nobody.

Rule of this package: what a stranger made and a library has to unpack is touched in a worker process
only. `pool` is the outside, in the gateway: it starts workers, hands them content and believes no
more of an answer than that it is one line of bounded length. Everything else is the inside. It has no
network, no files, no other process, little memory and little time, and it keeps nothing: a limit
that is reached there is a finding, an end that nobody expected is an error of the filter.
"""
