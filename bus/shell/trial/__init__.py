"""Trying suspects apart: deciding in a process of its own what may have ended the worker before.

Theory of operation. A delivery that has come back twice may be what ended the worker, so it is decided where it can
do no harm: in a child with bounds on memory and time. Its answer is the same decision as in the worker, sent back as
plain data; when the child dies or does not answer, that is a decision, too: poison. Only the culprit ends so, for each
suspect is tried alone, and its neighbours' trials succeed.

    worker ── forks, before it has threads ──> fork server ── forks, when there is a suspect ──> child ─┐
      └──────────────────── a socket pair: (word, delivery, facts) there, text back ────────────────────┘

Why a fork server and not `python -m` something: it is forked before the worker has any thread, so that no lock can be
held in it; it has the very routes that the worker began with, whatever has become of the files since, and is sent the
ones that come later; and a child costs milliseconds where loading costs a second, each time that one has died. It
shares its memory with the worker and sleeps until it is asked.
Children are made when the first suspect comes and kept until one dies.
"""
