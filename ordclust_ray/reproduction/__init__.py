"""The papers' tables and figures as plans: which runs each number needs, what was published, and what we measured."""
