"""Bad inputs, and odd but good ones, as data; `python -m tests.awkward` prints what rtpsp says to each."""
