"""Recipes: what each operation does, as stages. They know no torch, so that anyone can count and explain them."""
