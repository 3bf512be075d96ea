from policies import SpamReprot
