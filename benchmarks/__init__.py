"""What the gateway costs, measured beside a bare SMTP sink in the same run on the same machine.

Postfix's smtp-source sends, its smtp-sink takes. Absolute figures depend on the machine and on what
else it does; the ratios to the bare sink are for comparing.

And what it is good for: `corpus` counts what policies refuse of an archive of ham and spam.
"""
