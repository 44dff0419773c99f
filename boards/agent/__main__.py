"""Run the agent: ``python -m edge_bench.boards.agent ROOT COMMAND ...``; on a board it is a zipapp."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
