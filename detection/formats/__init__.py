"""Sets of boxes as people have them: what lies in a folder is recognised, read as `BoxSource`, and written anew."""
