"""What happens to a client's mail whichever front end it comes by, from the connection to the judgement.

`service` is what all sessions of a listener share, `early` judges the stages before RCPT in the background,
`recipients` each recipient, `party` the message for those who belong together, `keeping` keeps copies.
`refusals` is what no policy has to look at. Nothing here speaks any protocol: `proxy` and `milter` do.
"""
