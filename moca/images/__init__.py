"""Image files: finding, opening and checking them, and operators on their pixels."""
