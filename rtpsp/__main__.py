"""``python -m rtpsp``."""

from rtpsp.cli import main

if __name__ == "__main__":
    main()
