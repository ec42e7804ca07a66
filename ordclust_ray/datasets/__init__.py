"""The papers' data sets as their authors give them away: what each holds, listed and checked, by its protocol."""
