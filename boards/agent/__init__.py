"""The program that runs on a board: two slots, one active, and nothing but the standard library.

It is installed there as one file (a zipapp, see `edge_bench.boards.enrol`), so modules import each other relatively.
``ROOT`` is its folder:

* ``slots/a``, ``slots/b``: ``bundle.tflite`` with the signed ``manifest.json`` and ``manifest.sig`` that brought it;
* ``active``: a link to one of them; renaming a new link onto it is the switch;
* ``state.json``: what each slot holds and whether it is confirmed, with a checksum; writing it is the commit;
* ``floor``: the highest confirmed version once more, should ``state.json`` be damaged;
* ``config.json``, ``allowed_signers``, ``lock``, ``log``.
"""
