import streamlit as st
def draw(context):
    st.caption("soon")
